/** The properties of a packet on the wire that matter to Fairway, read from tshark's fields. */
import { Limit } from "../../src/tables/generated.js";
import { type Dissected, dissect } from "./dissect.js";

const FIELDS = [
	"frame.number",
	"frame.len",
	"frame.protocols",
	"eth.src",
	"eth.dst",
	"ip.src",
	"ip.dst",
	"ip.ttl",
	"ip.flags.df",
	"ip.checksum.status",
	"ipv6.src",
	"ipv6.dst",
	"ipv6.hlim",
	"udp.srcport",
	"udp.dstport",
	"udp.checksum",
	"udp.checksum.status",
	"tcp.checksum",
	"tcp.checksum.status",
	"tcp.checksum_calculated",
	"tcp.dstport",
	"geneve.vni",
	"geneve.option",
	"geneve.flags",
	"vxlan.vni",
	"vxlan.flags",
] as const;

type Fields = Dissected<(typeof FIELDS)[number]>;

interface Addresses {
	source: string;
	destination: string;
	/** TTL or hop limit. */
	ttl: number;
}

export interface WirePacket {
	number: string;
	length: number;
	sourceMac: string;
	destinationMac: string;
	outer: Addresses;
	tunnel:
		| {
				type: "geneve" | "vxlan";
				vni: number;
				sourcePort: number;
				destinationPort: number;
				checksum: number;
				/** undefined: the outer packet is IPv6. */
				dontFragment: boolean | undefined;
				flags: number;
				options: number;
				sourceMac: string;
				destinationMac: string;
				inner: Addresses;
		  }
		| undefined;
	/** Protocol of the innermost packet: tcp, udp, icmp... */
	protocol: string;
	/** Headers whose checksum tshark found wrong: "ip", "udp", "tcp". Not the tunnel's UDP header. */
	badChecksums: string[];
}

/**
 * Every IP packet of a capture except ICMP errors, neighbour discovery and similar; without the probes
 * between Nodes, or only these.
 */
export async function wirePackets(
	file: string,
	tunnelPort?: { port: number; type: "geneve" | "vxlan" },
	what: "traffic" | "probes" = "traffic",
): Promise<WirePacket[]> {
	const probes = `udp.port == ${Limit.PROBE_PORT}`;
	const filter =
		"(ip or ipv6) and not igmp and not (icmp and not (icmp.type == 0 or icmp.type == 8)) " +
		"and not (icmpv6 and not (icmpv6.type == 128 or icmpv6.type == 129)) " +
		(what === "probes" ? `and ${probes}` : `and not ${probes}`);
	const decode =
		tunnelPort === undefined ? [] : [`udp.port==${tunnelPort.port},${tunnelPort.type}`];
	const packets = await dissect(file, filter, FIELDS, { decode });
	return packets.map(readPacket);
}

function readPacket(fields: Fields): WirePacket {
	const protocols = (fields["frame.protocols"][0] ?? "").split(":");
	const type = protocols.includes("geneve")
		? "geneve"
		: protocols.includes("vxlan")
			? "vxlan"
			: undefined;
	// IPv4 and IPv6 fields are counted separately, outermost first.
	const seen = { ip: 0, ipv6: 0 };
	const layers = protocols
		.filter((protocol) => protocol === "ip" || protocol === "ipv6")
		.map((protocol): Addresses => {
			const n = seen[protocol]++;
			const ttl = fields[protocol === "ip" ? "ip.ttl" : "ipv6.hlim"][n];
			return {
				source: fields[`${protocol}.src`][n] ?? "",
				destination: fields[`${protocol}.dst`][n] ?? "",
				ttl: Number(ttl),
			};
		});
	const [outer, inner] = layers;
	const none = { source: "", destination: "", ttl: 0 };
	// The first UDP header of a tunnel packet is the tunnel's; its checksum of 0 also has a status.
	const udp = fields["udp.checksum.status"].slice(type === undefined ? 0 : 1);
	const bad = (name: string, states: string[]): string[] => (states.includes("0") ? [name] : []);
	return {
		number: fields["frame.number"][0] ?? "",
		length: Number(fields["frame.len"][0]),
		sourceMac: fields["eth.src"][0] ?? "",
		destinationMac: fields["eth.dst"][0] ?? "",
		outer: outer ?? none,
		tunnel:
			type === undefined
				? undefined
				: {
						type,
						vni: Number(fields[`${type}.vni`][0]),
						sourcePort: Number(fields["udp.srcport"][0]),
						destinationPort: Number(fields["udp.dstport"][0]),
						checksum: Number(fields["udp.checksum"][0]),
						dontFragment:
							protocols.indexOf("ip") >= 0 && protocols.indexOf("ip") < protocols.indexOf("udp")
								? /1|True/.test(fields["ip.flags.df"][0] ?? "")
								: undefined,
						flags: Number(fields[`${type}.flags`][0]),
						options: fields["geneve.option"].length,
						sourceMac: fields["eth.src"][1] ?? "",
						destinationMac: fields["eth.dst"][1] ?? "",
						inner: inner ?? none,
					},
		protocol: protocols.findLast((p) => /^(tcp|udp|icmp|icmpv6|sctp)$/.test(p)) ?? "fragment",
		badChecksums: [
			...bad("ip", fields["ip.checksum.status"]),
			...bad("udp", udp),
			...bad("tcp", isNegativeZero(fields) ? [] : fields["tcp.checksum.status"]),
		],
	};
}

/**
 * Linux writes a TCP checksum of zero as 0xffff, as UDP requires (`skb_checksum_help`, CSUM_MANGLED_0).
 * In one's complement both are zero, and every receiver accepts either; tshark reports 0xffff as bad.
 * This concerns one packet in 65,536.
 */
function isNegativeZero(fields: Fields): boolean {
	const [sent, calculated] = [fields["tcp.checksum"][0], fields["tcp.checksum_calculated"][0]];
	return Number(sent) === 0xffff && calculated !== undefined && Number(calculated) === 0;
}

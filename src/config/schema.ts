/**
 * The schema of the configuration file: keys, types, ranges, defaults. The JSON Schema is derived from it.
 *
 * The `error` of every check is the phrase that follows "expected" in the message.
 */
// The namespace, so that a bundle has only its used parts.
import * as z from "zod";
import { canonicalAddress } from "../tables/address.js";
import { readPrefix } from "../tables/prefix.js";
import { type Config, IANA_PORTS, type PortRange } from "./config.js";
import { clash, listenAddress } from "./listen_address.js";
import { type Environment, proxyRefusal } from "./proxy_rule.js";

/** One of the names, ignoring case; the value is spelled as here. */
function oneOf<const Names extends readonly [string, ...string[]]>(names: Names) {
	const canonical = new Map(names.map((name) => [name.toLowerCase(), name]));
	const fold = (value: unknown) =>
		typeof value === "string" ? (canonical.get(value.toLowerCase()) ?? value) : value;
	const others = names.slice(0, -1).join(", ");
	const wanted = others === "" ? names[0] : `${others} or ${names.at(-1)}`;
	return z.preprocess(fold, z.enum(names, { error: wanted }));
}

function wholeNumber(first: number, last: number, special?: string) {
	const range = `a whole number from ${first} to ${last}`;
	const error = special === undefined ? range : `${special} or ${range}`;
	const number = z.int({ error }).max(last, { error });
	if (special === undefined) return number.min(first, { error });
	return number.min(0, { error }).refine((value) => value === 0 || value >= first, { error });
}

const flag = () => z.boolean({ error: "true or false" });
const text = (wanted: string) => z.string({ error: wanted });
const seconds = (otherwise: number, about: string) =>
	wholeNumber(1, 604800).default(otherwise).describe(about);

const cidr = text("a CIDR such as 10.0.0.0/8 or fd00::/8")
	.transform((value, context) => {
		const read = readPrefix(value);
		if ("prefix" in read) return read.prefix.text;
		context.addIssue({ code: "custom", message: read.wanted });
		return z.NEVER;
	})
	.describe("a CIDR");

const cidrs = () =>
	z.array(cidr, { error: "a list of CIDRs" }).transform((list) => [...new Set(list)]);

const PORT_RANGE = '"FIRST-LAST" with ports from 1 to 65535, FIRST not above LAST';
const portRange = text(PORT_RANGE)
	.regex(/^\s*\d{1,5}\s*-\s*\d{1,5}\s*$/, { error: PORT_RANGE })
	.transform((value, context): PortRange => {
		const [first = 0, last = 0] = value.split("-").map(Number);
		if (first >= 1 && first <= last && last <= 65535) return { first, last };
		context.addIssue({ code: "custom", message: PORT_RANGE });
		return z.NEVER;
	});

const LISTEN = 'ADDRESS:PORT, [IPv6]:PORT, :PORT for every address, or ""';
const listen = (otherwise: string, about: string) =>
	text(LISTEN)
		.refine((value) => value === "" || listenAddress(value) !== undefined, { error: LISTEN })
		.default(otherwise)
		.describe(about);

/** A section without content ("snat:" followed only by comments) has the defaults. */
function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
	const content = z.strictObject(shape, { error: "a mapping of keys to values" });
	return z.preprocess((value) => value ?? {}, content).prefault({} as never);
}

const timeouts = section({
	tcpOpening: seconds(
		240,
		"TCP without an answer yet, or half-open (RFC 5382 REQ-5: 4 minutes at least).",
	),
	tcpEstablished: seconds(7440, "TCP after its handshake (RFC 5382 REQ-5: 2 hours and 4 minutes)."),
	tcpClosing: seconds(240, "TCP after one FIN (RFC 5382 REQ-5: 4 minutes at least)."),
	tcpClosed: seconds(
		240,
		"TCP after both FINs or a reset (RFC 7857 2.2: 4 minutes). Traffic after a reset revives it.",
	),
	udpOpening: seconds(120, "UDP without an answer yet (RFC 4787 REQ-5: 2 minutes at least)."),
	udpEstablished: seconds(300, "UDP with an answer (RFC 4787 REQ-5: 5 minutes recommended)."),
	icmp: seconds(60, "ICMP echo (RFC 5508 REQ-2: 60 seconds at least)."),
	sctpOpening: seconds(
		60,
		"SCTP without an answer yet. No RFC; ports are kept, so a flow can begin again.",
	),
	sctpEstablished: seconds(7440, "SCTP with an answer, as TCP."),
	sctpClosed: seconds(10, "SCTP after ABORT or SHUTDOWN COMPLETE, as Linux has it."),
	other: seconds(600, "Protocols without ports, as Linux has it."),
});

const SKIPPED = "NAMESPACE/NAME of a Service, or a cluster IP";
const NAMESPACED_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?\/[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const skipped = text(SKIPPED)
	.transform((value, context) => {
		if (NAMESPACED_NAME.test(value)) return value;
		const address = canonicalAddress(value);
		if (address !== undefined) return address;
		context.addIssue({ code: "custom", message: SKIPPED });
		return z.NEVER;
	})
	.describe("NAMESPACE/NAME or a cluster IP");

const SERVICE_NAME = "NAMESPACE/NAME of a Service";
const serviceName = text(SERVICE_NAME)
	.regex(NAMESPACED_NAME, { error: SERVICE_NAME })
	.describe("NAMESPACE/NAME");
/** Services whose flows are counted: each is a series of its own. */
const COUNTED_MOST = 250;

const fairwayProxy = section({
	enable: flag()
		.default(true)
		.describe(
			"Fairway serves Services. false: packets from Pods to Services go to the Node's own stack, for kube-proxy. Refused with trafficEncapMode noEncap and hybrid, unless the agent's environment has ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY (or ALLOW_NO_ENCAP_WITHOUT_ANTREA_PROXY) with a true value.",
		),
	proxyAll: flag()
		.default(true)
		.describe(
			"Serves NodePorts, load balancer IPs and external IPs from outside, and the Node's own processes. false: these, and NodePorts that Pods use, are left to kube-proxy.",
		),
	nodePortAddresses: cidrs()
		.prefault([])
		.describe(
			"NodePorts are served at the Node's addresses in these CIDRs. Empty: at all of its addresses except loopback and the Pods' gateways.",
		),
	nodePortRange: portRange
		.prefault("30000-32767")
		.describe(
			"Ports that NodePorts may have, FIRST-LAST, as in the API server's --service-node-port-range. Must not overlap snat.portRange.",
		),
	skipServices: z
		.array(skipped, { error: "a list" })
		.transform((list) => [...new Set(list)])
		.prefault([])
		.describe(
			"Services that are left to the Node's own stack: NAMESPACE/NAME, or a cluster IP (NodeLocal DNSCache).",
		),
	countFlows: z
		.array(serviceName, { error: "a list" })
		.max(COUNTED_MOST, { error: `at most ${COUNTED_MOST} Services` })
		.transform((list) => [...new Set(list)])
		.prefault([])
		.describe(
			`Services, NAMESPACE/NAME, whose live flows are counted in fairway_service_flows: at most ${COUNTED_MOST}.`,
		),
	proxyLoadBalancerIPs: flag()
		.default(true)
		.describe(
			"Serves load balancer IPs in the cluster. false: packets for them go to the load balancer.",
		),
	serviceProxyName: text("a label's value of at most 63 letters, digits, -, _ and .")
		.regex(/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/, {
			error: "a label's value of at most 63 letters, digits, -, _ and .",
		})
		.default("")
		.describe(
			"Serves only Services whose label service.kubernetes.io/service-proxy-name has this value. Empty: only those without the label.",
		),
	externalIPs: flag()
		.default(false)
		.describe(
			"Serves spec.externalIPs of Services. Every user who may create Services can then claim any address (CVE-2020-8554).",
		),
	externalClusterIP: flag()
		.default(false)
		.describe("Cluster IPs are reachable from outside the cluster."),
	defaultLoadBalancerMode: oneOf(["nat"])
		.default("nat")
		.describe(
			"The source that an endpoint on another Node sees in packets from outside. nat: the Node that the packet came to.",
		),
	healthServer: listen(
		":10256",
		"Where /healthz and /livez are served for load balancers, as by kube-proxy: ADDRESS:PORT, [IPv6]:PORT or :PORT. Empty: nowhere.",
	),
}).describe("Kubernetes Services.");

export const schema = z.strictObject(
	{
		trafficEncapMode: oneOf(["encap", "noEncap", "hybrid"])
			.default("encap")
			.describe(
				"How packets reach Pods on other Nodes. encap: always in a tunnel. noEncap: never in a tunnel; the network must route pod CIDRs. hybrid: directly where that works, otherwise in a tunnel.",
			),
		hybrid: section({
			direct: oneOf(["proven", "subnet"])
				.default("proven")
				.describe(
					"When a peer is reached directly. proven: peers in the same subnet or in tryDirectCIDRs, while probes prove the path. subnet: peers in the same subnet, without probing.",
				),
			tryDirectCIDRs: cidrs()
				.prefault([])
				.describe(
					"Peers with a transport address in one of these are tried directly in other subnets, too, for networks that route pod CIDRs. Needs hybrid.direct proven.",
				),
			neverDirectCIDRs: cidrs()
				.prefault([])
				.describe(
					"Peers with a transport address in one of these are always reached in a tunnel. Takes precedence over the other keys.",
				),
		}).describe("Applies to trafficEncapMode hybrid."),
		probes: section({
			failoverTime: wholeNumber(300, 60000)
				.default(1000)
				.describe(
					"Milliseconds within which a direct path that fails while it carries traffic is replaced by the tunnel.",
				),
			holdTime: wholeNumber(1, 3600)
				.default(5)
				.describe(
					"Seconds for which a failed direct path must be healthy before it is used again. Doubles with each failure.",
				),
			holdTimeMax: wholeNumber(1, 86400)
				.default(300)
				.describe("Upper limit of the doubled holdTime, in seconds."),
		}).describe("Path probing: how fast paths fail over and return."),
		tunnelType: oneOf(["geneve", "vxlan"])
			.default("geneve")
			.describe(
				"Encapsulation of the packets that this Node sends. Received packets may have either.",
			),
		tunnelPort: wholeNumber(0, 65535)
			.default(0)
			.describe("UDP destination port of tunnel packets. 0: 6081 for Geneve, 4789 for VXLAN."),
		tunnelVNI: wholeNumber(0, 16777215)
			.default(1)
			.describe("Virtual network identifier (VNI) of all tunnels."),
		noSNAT: flag()
			.default(false)
			.describe(
				"Pod packets keep the Pod's address when they leave the cluster. Refused with trafficEncapMode encap.",
			),
		transportInterface: text("the name of an interface")
			.max(15, { error: "an interface's name of at most 15 characters" })
			.regex(/^[^\s/]*$/, { error: "an interface's name without blanks and slashes" })
			.default("")
			.describe(
				"Name of the interface that has the transport address, which is the Node's end of tunnels and direct paths. Empty: chosen by transportInterfaceCIDRs, or else the interface with the Node's InternalIP.",
			),
		transportInterfaceCIDRs: cidrs()
			.prefault([])
			.describe(
				"The first interface with an address in one of these has the transport address. Used where transportInterface is empty.",
			),
		defaultMTU: wholeNumber(1280, 65535, "0")
			.default(0)
			.describe(
				"MTU of Pod interfaces: 0, or 1280 to 65535. 0: derived from the transport interface.",
			),
		xdp: oneOf(["auto", "native", "generic", "off"])
			.default("auto")
			.describe(
				"Where packets from the network are processed first. native, generic: in XDP. off: at tc ingress. auto: native XDP where the interface supports it and is not a veth, otherwise off.",
			),
		snat: section({
			portRange: portRange
				.prefault("49152-65535")
				.describe(
					"Source ports of translated packets, FIRST-LAST. The agent reserves them on the Node.",
				),
			excludeCIDRs: cidrs()
				.prefault([])
				.describe("Destinations to which Pod packets keep the Pod's address."),
		}).describe("Source address translation (SNAT) of Pod packets that leave the cluster."),
		serviceCIDRs: cidrs()
			.prefault([])
			.describe("The cluster's Service CIDRs, in addition to those of ServiceCIDR objects."),
		fairwayProxy,
		flows: section({
			max: wholeNumber(64, 8388608).default(131072).describe("Entries of the flow table."),
			timeouts: timeouts.describe(
				"Seconds for which a flow without packets is kept, by its state. In a full table, unanswered and closed flows are evicted earlier.",
			),
		}).describe("Connection tracking."),
		http: section({
			health: listen(
				"127.0.0.1:9479",
				"Where /livez and /readyz are served: ADDRESS:PORT, [IPv6]:PORT or :PORT. Empty: nowhere. The probes of deploy/fairway.yaml ask at the default: change them as well (the chart does).",
			),
			metrics: listen(
				"127.0.0.1:9480",
				"Where /metrics is served (Prometheus; docs/METRICS.md). Empty: nowhere.",
			),
		}).describe("HTTP servers of the agent, in its network namespace."),
		log: section({
			level: oneOf(["fatal", "error", "warn", "info", "debug", "trace", "silent"])
				.default("info")
				.describe("Minimum severity of logged messages."),
		}).describe("The agent's log: JSON lines on standard output."),
	},
	{ error: "a mapping of keys to values" },
);

/** JSON Schema (2020-12) of the configuration file. */
export function configSchema(): object {
	const generated = z.toJSONSchema(schema, {
		io: "input",
		override: ({ zodSchema, jsonSchema }) => {
			// zod omits defaults that pass through a preprocess step.
			if (jsonSchema.default === undefined && zodSchema._zod.def.type === "default")
				jsonSchema.default = (zodSchema._zod.def as { defaultValue?: unknown })
					.defaultValue as never;
		},
	});
	return { title: "Configuration of the Fairway agent", ...generated };
}

/** An invalid combination of keys: the key to point at, and a sentence. */
export interface Refusal {
	path: string[];
	message: string;
}

/** `given` holds the valid keys; the others are undefined. */
export function refusedCombinations(given: Partial<Config>, environment: Environment): Refusal[] {
	const refusals: Refusal[] = [];
	const { trafficEncapMode, fairwayProxy: proxy, snat, http } = given;
	if (trafficEncapMode !== undefined && proxy !== undefined) {
		const message = proxyRefusal({ trafficEncapMode, fairwayProxy: proxy }, environment);
		if (message !== undefined) refusals.push({ path: ["fairwayProxy", "enable"], message });
	}
	if (given.noSNAT === true && given.trafficEncapMode === "encap")
		refusals.push({
			path: ["noSNAT"],
			message:
				"Cannot use noSNAT: expected false with trafficEncapMode encap, because Pod addresses mean nothing outside a tunnel, got true",
		});
	if (given.hybrid?.direct === "subnet" && given.hybrid.tryDirectCIDRs.length > 0)
		refusals.push({
			path: ["hybrid", "tryDirectCIDRs"],
			message:
				"Cannot use hybrid.tryDirectCIDRs: expected hybrid.direct proven, because nothing else tells whether another subnet can be reached directly, got subnet",
		});
	if (given.probes !== undefined && given.probes.holdTime > given.probes.holdTimeMax)
		refusals.push({
			path: ["probes", "holdTime"],
			message: `Cannot use probes.holdTime: expected at most probes.holdTimeMax ${given.probes.holdTimeMax}, got ${given.probes.holdTime}`,
		});
	if (given.http !== undefined && clash(given.http.health, given.http.metrics))
		refusals.push({
			path: ["http", "metrics"],
			message: `Cannot use http.metrics: expected another port than that of http.health ${given.http.health}, got ${given.http.metrics}`,
		});
	if (proxy !== undefined && snat !== undefined && meet(proxy.nodePortRange, snat.portRange))
		refusals.push({
			path: ["fairwayProxy", "nodePortRange"],
			message: `Cannot use fairwayProxy.nodePortRange: expected no port of snat.portRange ${rangeText(snat.portRange)}, got ${rangeText(proxy.nodePortRange)}`,
		});
	for (const name of ["health", "metrics"] as const)
		if (proxy?.enable === true && http !== undefined && clash(proxy.healthServer, http[name]))
			refusals.push({
				path: ["fairwayProxy", "healthServer"],
				message: `Cannot use fairwayProxy.healthServer: expected another port than that of http.${name} ${http[name]}, got ${proxy.healthServer}`,
			});
	const other = given.tunnelType === "geneve" ? "vxlan" : "geneve";
	// Receivers always accept both tunnel types and distinguish them by these ports.
	if (given.tunnelType !== undefined && given.tunnelPort === IANA_PORTS[other])
		refusals.push({
			path: ["tunnelPort"],
			message: `Cannot use tunnelPort: expected a port for ${given.tunnelType} that is not the one of ${other}, got ${given.tunnelPort}`,
		});
	return refusals;
}

function meet(a: PortRange, b: PortRange): boolean {
	return a.first <= b.last && b.first <= a.last;
}

function rangeText({ first, last }: PortRange): string {
	return `${first}-${last}`;
}

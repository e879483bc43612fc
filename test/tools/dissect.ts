/** Fields of the packets in a capture file, read with tshark. */
import { run } from "../../src/lab/namespace.js";

/** A field that occurs several times in a packet (outer first) has several values. */
export type Dissected<F extends string> = Record<F, string[]>;

/**
 * The values of fields in each packet that matches a display filter.
 *
 * @param decode as tshark's -d, "udp.port==7000,geneve".
 */
export async function dissect<F extends string>(
	file: string,
	filter: string,
	fields: readonly F[],
	options: { preferences?: readonly string[]; decode?: readonly string[] } = {},
): Promise<Dissected<F>[]> {
	const { preferences = [], decode = [] } = options;
	const { stdout } = await run([
		...["tshark", "-n", "-r", file, "-Y", filter, "-T", "fields", "-E", "occurrence=a"],
		...["-E", "aggregator=|", "-E", "separator=/t"],
		...[...CHECKS, ...preferences].flatMap((preference) => ["-o", preference]),
		...decode.flatMap((rule) => ["-d", rule]),
		...fields.flatMap((field) => ["-e", field]),
	]);
	return stdout
		.split("\n")
		.filter((line) => line !== "")
		.map((line) => {
			const values = line.split("\t");
			const entries = fields.map((f, i) => [f, (values[i] ?? "").split("|").filter(Boolean)]);
			return Object.fromEntries(entries) as Dissected<F>;
		});
}

/** A frame's bytes, to inspect an unexpected packet. */
export async function frameBytes(file: string, number: string): Promise<string> {
	const filter = ["-Y", `frame.number == ${number}`, "-x"];
	return (await run(["tshark", "-n", "-r", file, ...filter])).stdout;
}

const CHECKS = [
	"ip.check_checksum:TRUE",
	"udp.check_checksum:TRUE",
	"tcp.check_checksum:TRUE",
	"ip.defragment:FALSE",
	"ipv6.defragment:FALSE",
];

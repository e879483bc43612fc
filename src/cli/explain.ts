/** `fairway explain` */
import { isIP } from "node:net";
import type { ExplainAnswer, ExplainProtocol, ExplainRequest } from "../api/messages.js";
import { facts } from "../text/table.js";
import { EXIT_DONE, UsageError } from "./exit.js";
import { type ClientOptions, show } from "./output.js";

export async function explainCommand(
	source: string,
	destination: string,
	options: ClientOptions & { proto: ExplainProtocol },
): Promise<number> {
	const body = explainRequest(source, destination, options.proto);
	await show<ExplainAnswer>(options, { method: "POST", path: "/explain", body }, explainText);
	return EXIT_DONE;
}

/** @throws UsageError */
export function explainRequest(
	source: string,
	destination: string,
	protocol: ExplainProtocol,
): ExplainRequest {
	const from = readEnd("source", source);
	const to = readEnd("destination", destination);
	if (isIP(from.address) !== isIP(to.address)) {
		throw new UsageError(
			`Cannot explain ${source} to ${destination}: expected addresses of one family, got IPv${isIP(from.address)} and IPv${isIP(to.address)}`,
		);
	}
	if (protocol === "icmp" && (from.port !== undefined || to.port !== undefined)) {
		throw new UsageError("Cannot explain an ICMP packet: expected addresses without ports");
	}
	return {
		source: from.address,
		destination: to.address,
		protocol,
		...(from.port === undefined ? {} : { sourcePort: from.port }),
		...(to.port === undefined ? {} : { destinationPort: to.port }),
	};
}

/** "10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]", "[fd00::1]:80" */
function readEnd(what: string, text: string): { address: string; port?: number } {
	const wrong = (got: string) =>
		new UsageError(
			`Cannot read the ${what} ${JSON.stringify(text)}: expected ADDRESS, ADDRESS:PORT or [IPV6]:PORT, ${got}`,
		);
	const [, bracketed, plain, port] =
		/^(?:\[([^\]]*)\]|([^:]*))(?::([^:]*))?$/.exec(text) ??
		(isIP(text) === 6 ? ["", undefined, text] : []);
	const address = bracketed ?? plain ?? "";
	if (isIP(address) === 0 || (bracketed !== undefined && isIP(address) !== 6)) {
		throw wrong(address === "" ? "got no address" : `got ${address}`);
	}
	if (address.includes("%")) {
		throw wrong("got an address with a zone");
	}
	if (port === undefined) {
		return { address };
	}
	if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535) {
		throw wrong(`got the port ${JSON.stringify(port)}`);
	}
	return { address, port: Number(port) };
}

export function explainText(answer: ExplainAnswer): string {
	const end = (address: string, port: number | undefined) =>
		port === undefined ? address : `${address.includes(":") ? `[${address}]` : address}:${port}`;
	const { snat } = answer;
	const result = facts([
		[
			"Packet",
			`${answer.protocol} ${end(answer.source, answer.sourcePort)} → ${end(answer.destination, answer.destinationPort)}, first hook ${answer.hook}`,
		],
		["Verdict", answer.drop === null ? "forwarded" : `dropped: ${answer.drop}`],
		["Path", `${answer.path ?? "-"}${answer.peer === null ? "" : ` to ${answer.peer}`}`],
		["Reason", answer.reason],
		["SNAT", snat === null ? "no" : end(snat.address, snat.port)],
		["MTU", answer.mtu === null ? "-" : String(answer.mtu)],
		["Device", answer.device ?? "-"],
	]);
	const width = Math.max(0, ...answer.steps.map(({ stage }) => stage.length));
	const steps = answer.steps.map(
		({ stage, text }, i) => `  ${String(i + 1).padStart(2)}  ${stage.padEnd(width)}  ${text}\n`,
	);
	return steps.length === 0 ? result : `${result}\nDecisions\n${steps.join("")}`;
}

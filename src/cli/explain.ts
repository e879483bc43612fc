/** `fairway explain` */
import { isIP } from "node:net";
import type {
	ExplainAnswer,
	ExplainBackend,
	ExplainProtocol,
	ExplainRequest,
	ExplainService,
} from "../api/messages/explain.js";
import { facts } from "../text/table.js";
import { EXIT_DONE, UsageError } from "./exit.js";
import { policyFacts, policyText, verdictOf } from "./explain_policy.js";
import { type ClientOptions, show } from "./output.js";

export async function explainCommand(
	source: string,
	destination: string,
	options: ClientOptions & { proto?: ExplainProtocol },
): Promise<number> {
	const body = explainRequest(source, destination, options.proto);
	await show<ExplainAnswer>(options, { method: "POST", path: "/explain", body }, explainText);
	for (const end of [source, destination]) {
		const hint = missingBrackets(end);
		if (hint !== undefined) process.stderr.write(`fairway: ${hint}\n`);
	}
	return EXIT_DONE;
}

/** @throws UsageError */
export function explainRequest(
	source: string,
	destination: string,
	protocol: ExplainProtocol | undefined,
): ExplainRequest {
	const from = readEnd("source", source);
	const to = readEnd("destination", destination);
	const families = [isIP(from.place), isIP(to.place)];
	if (!families.includes(0) && families[0] !== families[1])
		throw new UsageError(
			`Cannot explain ${source} to ${destination}: expected addresses of one family, got IPv${families[0]} and IPv${families[1]}`,
		);
	if (protocol === "icmp" && (from.port !== undefined || to.port !== undefined))
		throw new UsageError("Cannot explain an ICMP packet: expected addresses without ports");
	if (typeof from.port === "string")
		throw new UsageError(
			`Cannot read the source ${JSON.stringify(source)}: expected a number as its port, got ${JSON.stringify(from.port)}`,
		);
	return {
		source: from.place,
		destination: to.place,
		...(protocol === undefined ? {} : { protocol }),
		...(from.port === undefined ? {} : { sourcePort: from.port }),
		...(to.port === undefined ? {} : { destinationPort: to.port }),
	};
}

interface End {
	/** An address, or "namespace/name", perhaps with its kind before it. */
	place: string;
	/** A name is one of a Service's ports. */
	port?: number | string;
}

const NAME = /^(?:(?:pod|service)\/)?[^/\s]+\/[^/\s]+$/;

/** "10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]", "[fd00::1]:80", "default/web", "default/web:http" */
function readEnd(what: string, text: string): End {
	const wrong = (got: string) =>
		new UsageError(
			`Cannot read the ${what} ${JSON.stringify(text)}: expected ADDRESS, NAMESPACE/NAME, either with :PORT, or [IPV6]:PORT, ${got}`,
		);
	const [, bracketed, plain, port] =
		/^(?:\[([^\]]*)\]|([^:]*))(?::([^:]*))?$/.exec(text) ??
		(isIP(text) === 6 ? ["", undefined, text] : []);
	const place = bracketed ?? plain ?? "";
	const isName = bracketed === undefined && NAME.test(place);
	if (!isName && (isIP(place) === 0 || (bracketed !== undefined && isIP(place) !== 6)))
		throw wrong(place === "" ? "got no address" : `got ${place}`);
	if (place.includes("%")) throw wrong("got an address with a zone");
	if (port === undefined) return { place };
	// RFC 6335: the name of a port has a letter.
	if (isName && /^[a-z0-9-]*[a-z][a-z0-9-]*$/.test(port)) return { place, port };
	if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535)
		throw wrong(`got the port ${JSON.stringify(port)}`);
	return { place, port: Number(port) };
}

/** A hint for an IPv6 address whose end may be meant as a port: "fd00::a:80" is an address. */
export function missingBrackets(text: string): string | undefined {
	const [, address = "", port = ""] = /^(.*):([1-9]\d{1,4})$/.exec(text) ?? [];
	if (isIP(text) !== 6 || isIP(address) !== 6) return undefined;
	return `${text} is an address without a port; port ${port} of ${address} is written [${address}]:${port}`;
}

export function explainText(answer: ExplainAnswer): string {
	const end = (address: string, port: number | undefined) =>
		port === undefined ? address : `${address.includes(":") ? `[${address}]` : address}:${port}`;
	const { snat, service, backend, backends, differing } = answer;
	const snatText = (to: ExplainAnswer["snat"]) => (to === null ? "no" : end(to.address, to.port));
	/** What differs between backends stands with each of them. */
	const own = ({ drop, snat: translated, mtu, device }: NonNullable<ExplainBackend["fate"]>) => [
		...(differing.includes("drop") && drop !== null ? [`dropped: ${drop}`] : []),
		...(differing.includes("snat") ? [`SNAT ${snatText(translated)}`] : []),
		...(differing.includes("mtu") && mtu !== null ? [`MTU ${mtu}`] : []),
		...(differing.includes("device") && device !== null ? [`out of ${device}`] : []),
	];
	const to = ({ address, port, node, path, fate }: ExplainBackend) =>
		[
			`${end(address, port)}${node === "" ? "" : ` on ${node}`}`,
			path,
			...(fate === undefined ? [] : own(fate)),
		].join(", ");
	const shown = (field: ExplainAnswer["differing"][number], text: string) =>
		differing.includes(field) ? DEPENDS : text;
	const result = facts([
		[
			"Packet",
			`${answer.protocol} ${end(answer.source, answer.sourcePort)} → ${end(answer.destination, answer.destinationPort)}, first hook ${answer.hook}`,
		],
		...(service === null ? [] : serviceFacts(service)),
		...(backend !== null
			? [fact("Backend", `${to(backend)}${service?.by == null ? "" : BY[service.by]}`)]
			: backends.length > 0
				? [fact("Backend", ["one of", ...backends.map(to)])]
				: []),
		...policyFacts(answer),
		["Verdict", shown("drop", verdictOf(answer))],
		[
			"Path",
			shown("path", `${answer.path ?? "-"}${answer.peer === null ? "" : ` to ${answer.peer}`}`),
		],
		["Reason", answer.reason],
		["SNAT", shown("snat", snatText(snat))],
		["MTU", shown("mtu", answer.mtu === null ? "-" : String(answer.mtu))],
		["Device", shown("device", answer.device ?? "-")],
	]);
	const width = Math.max(0, ...answer.steps.map(({ stage }) => stage.length));
	const steps = answer.steps.map(
		({ stage, text }, i) => `  ${String(i + 1).padStart(2)}  ${stage.padEnd(width)}  ${text}\n`,
	);
	const policies = policyText(answer);
	return steps.length === 0
		? result + policies
		: `${result}${policies}\nDecisions\n${steps.join("")}`;
}

const DEPENDS = "depends on the backend";

const BY = {
	flow: " (the flow has it)",
	affinity: " (the client stays with it)",
	choice: "",
} as const;

function fact(name: string, value: string | string[]): [string, string | string[]] {
	return [name, value];
}

function serviceFacts({ namespace, name, port, portName, type, frontend, set }: ExplainService) {
	const kind = frontend.kind === null ? "" : `, ${KINDS[frontend.kind]}`;
	const named = portName === "" ? `port ${port}` : `port ${portName} (${port})`;
	return [
		fact("Service", `${namespace}/${name} ${named}, ${type}${kind}`),
		...(set === null
			? []
			: [fact("Endpoints", `${set.used} of ${set.of}, the ${set.name} set. ${set.why}`)]),
	];
}

const KINDS = {
	clusterIP: "by its cluster IP",
	nodePort: "by its NodePort",
	loadBalancer: "by a load balancer IP",
	externalIP: "by an external IP",
} as const;

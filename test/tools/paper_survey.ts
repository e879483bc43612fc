/** The survey of a simulated network, defined by the longest packet in each direction. */
import type { PathSurvey, SurveyCell, Way } from "../../src/probe/survey/survey.js";

export interface PaperWay {
	/** The longest packet that gets through; default 0: none. */
	there?: number;
	back?: number;
}

export interface PaperNetwork {
	direct: PaperWay | { none: string };
	tunnel: PaperWay | { none: string };
	kind?: "direct" | "routed";
	tunnelType?: "geneve" | "vxlan";
	answers?: boolean;
	/** Requests for each combination. */
	asked?: number;
}

const SMALL = 88;
export const MTU: Readonly<Record<Way, number>> = { direct: 1500, tunnel: 1450 };

export function paperSurvey(node: string, family: 4 | 6, network: PaperNetwork): PathSurvey {
	const { kind = "direct", tunnelType = "geneve", asked = 5 } = network;
	const passes = (way: Way, end: "there" | "back", length: number) => {
		const path = network[way];
		return !("none" in path) && length <= (path[end] ?? 0);
	};
	const cells = combinations()
		.filter(({ there, back }) => !("none" in network[there]) && !("none" in network[back]))
		.map((cell): SurveyCell => {
			const answered =
				passes(cell.there, "there", cell.length) && passes(cell.back, "back", cell.answerLength);
			return {
				...cell,
				asked,
				answered: answered ? asked : 0,
				roundTripMs: answered ? (cell.there === "direct" ? 0.21 : 0.34) : null,
			};
		});
	return {
		node,
		family,
		transportAddress: family === 4 ? "192.168.1.12" : "fd00:1::12",
		direct: "none" in network.direct ? network.direct : { kind, mtu: MTU.direct },
		tunnel: "none" in network.tunnel ? network.tunnel : { kind: tunnelType, mtu: MTU.tunnel },
		cells,
		answers: network.answers ?? cells.some(({ answered }) => answered > 0),
	};
}

/** Answers are never longer than requests. */
function combinations(): Pick<SurveyCell, "there" | "back" | "length" | "answerLength">[] {
	const cell = (there: Way, back: Way, length: number, answerLength: number) => ({
		there,
		back,
		length,
		answerLength,
	});
	return [
		cell("direct", "direct", SMALL, SMALL),
		cell("direct", "direct", MTU.direct, MTU.direct),
		cell("direct", "tunnel", SMALL, SMALL),
		cell("direct", "tunnel", MTU.direct, SMALL),
		cell("tunnel", "direct", SMALL, SMALL),
		cell("tunnel", "direct", MTU.tunnel, MTU.tunnel),
		cell("tunnel", "tunnel", SMALL, SMALL),
		cell("tunnel", "tunnel", MTU.tunnel, MTU.tunnel),
	];
}

/**
 * `/metrics`. Anyone who reaches the port may scrape, so scrapes run one after another, and each is followed by a
 * pause of four times its length: together they take a fifth of a core at most.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { exposition } from "./exposition.js";
import { answer } from "./health.js";
import type { Sample } from "./metrics.js";

const WAITING_MAX = 8;
const PAUSE_FACTOR = 4;
const PAUSE_MAX_MS = 2_000;
/** A client that does not read is cut off. */
const CLIENT_MS = 10_000;

export interface ScrapeOptions {
	sample: () => Promise<Sample>;
	/** Text of the metrics that are kept elsewhere. */
	more: () => string;
	onError: (error: unknown) => void;
}

export function metricsHandler({ sample, more, onError }: ScrapeOptions) {
	let waiting = 0;
	let queue: Promise<void> = Promise.resolve();
	const scrape = async (response: ServerResponse): Promise<void> => {
		if (response.destroyed) return;
		const began = performance.now();
		try {
			const pieces = exposition(await sample(), more());
			response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
			for (const piece of pieces) {
				if (piece !== "" && !response.write(piece)) await writable(response);
				if (response.destroyed) break;
				await turn();
			}
			response.end();
		} catch (error) {
			onError(error);
			if (response.headersSent) response.destroy();
			else answer(response, 500, "Cannot read the metrics: the agent's log has the error");
		}
		await delay(Math.min(PAUSE_MAX_MS, PAUSE_FACTOR * (performance.now() - began)), undefined, {
			ref: false,
		});
	};
	return (request: IncomingMessage, response: ServerResponse): void => {
		if (request.url?.split("?", 1)[0] !== "/metrics") {
			answer(response, 404, "Cannot answer: expected /metrics");
			return;
		}
		if (waiting >= WAITING_MAX) {
			response.setHeader("retry-after", "5");
			answer(response, 503, "Cannot answer: too many scrapes wait");
			return;
		}
		waiting++;
		const impatience = setTimeout(() => response.destroy(), CLIENT_MS);
		response.on("close", () => clearTimeout(impatience));
		queue = queue.then(() => scrape(response)).finally(() => waiting--);
	};
}

function writable(response: ServerResponse): Promise<void> {
	return new Promise((resolve) => {
		const done = () => {
			response.off("drain", done).off("close", done);
			resolve();
		};
		response.on("drain", done).on("close", done);
	});
}

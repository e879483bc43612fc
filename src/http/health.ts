/**
 * `/livez`: the agent's event loop runs, which any answer proves.
 * `/readyz`: packets flow. Once ready, an agent stays ready when the API or peers fail: forwarding
 * goes on, and taking the agent out of service would mend neither.
 */
import type { IncomingMessage, ServerResponse } from "node:http";

export interface Readiness {
	ready: boolean;
	waitingFor: string | undefined;
}

export function healthHandler(readiness: () => Readiness) {
	let wasReady = false;
	return (request: IncomingMessage, response: ServerResponse): void => {
		const { ready, waitingFor } = readiness();
		wasReady ||= ready;
		if (request.url === "/livez" || (request.url === "/readyz" && wasReady))
			answer(response, 200, "ok");
		else if (request.url === "/readyz")
			answer(response, 503, `waiting for ${waitingFor ?? "the agent to start"}`);
		else answer(response, 404, "Cannot answer: expected /livez or /readyz");
	};
}

export function answer(response: ServerResponse, status: number, text: string): void {
	response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
	response.end(`${text}\n`);
}

/** Shared by the commands that print state. */
import { agentSocket, ask } from "../api/client.js";

export interface ClientOptions {
	runDir: string;
	output: "text" | "json";
}

/** Queries the agent and prints its answer as JSON or text. */
export async function show<Answer>(
	options: ClientOptions,
	request: { method: "GET" | "POST"; path: string; body?: unknown; timeoutMs?: number },
	text: (answer: Answer) => string,
): Promise<Answer> {
	const { method, path, ...call } = request;
	const answer = await ask<Answer>(agentSocket(options.runDir), method, path, call);
	process.stdout.write(options.output === "json" ? json(answer) : text(answer));
	return answer;
}

export function json(value: unknown): string {
	return `${JSON.stringify(value, undefined, 2)}\n`;
}

/** Columns of text: the terminal's, or 120 where output goes elsewhere. */
export function terminalWidth(): number {
	return process.stdout.columns ?? 120;
}

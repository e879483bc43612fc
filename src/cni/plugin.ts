/**
 * fairway-cni, which a container runtime executes for each Pod.
 *
 *  1 parameters: variables, the configuration on standard input
 *  2 answers VERSION; rejects invalid calls
 *  3 asks the agent      4 prints its answer, or the result of its absence
 *
 * It starts for every call, so it loads only a few small modules and Node's own.
 */
import { readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type AgentUnreachableError, call } from "../api/client.js";
import { forgetDeletion, noteDeletion } from "./deletions.js";
import type { EndpointId } from "./endpoint.js";
import { CniError, ErrorCode, errorObject } from "./errors.js";
import type { CniRequest, CniResponse } from "./protocol.js";
import { answerVersion, type Invocation, parseRequest, supportedVersions } from "./request.js";

/** Longer than any ADD, shorter than the time-outs of runtimes (kubelet: 4 minutes). */
const TIMEOUT_MS = 60_000;

/** @returns the output and the exit status */
export async function run(
	environment: NodeJS.ProcessEnv,
	readInput: () => string,
): Promise<CniResponse> {
	let config: unknown;
	try {
		const command = environment.CNI_COMMAND ?? "";
		config = parseInput(readInput, command);
		if (command === "VERSION") return { status: 0, body: versionAnswer(config) };
		const request: CniRequest = {
			command,
			containerId: environment.CNI_CONTAINERID ?? "",
			netns: environment.CNI_NETNS ?? "",
			ifName: environment.CNI_IFNAME ?? "",
			args: environment.CNI_ARGS ?? "",
			config,
		};
		return await askAgent(request, parseRequest(request));
	} catch (error) {
		return { status: 1, body: errorObject(error, answerVersion(config)) };
	}
}

function parseInput(readInput: () => string, command: string): unknown {
	let text: string;
	try {
		text = readInput();
	} catch (error) {
		throw new CniError(
			ErrorCode.IO_FAILURE,
			`Cannot read standard input: ${(error as Error).message}`,
		);
	}
	if (command === "VERSION" && text.trim() === "") return {};
	try {
		return JSON.parse(text);
	} catch (error) {
		throw new CniError(
			ErrorCode.DECODING_FAILURE,
			`Cannot read the network configuration: expected JSON: ${(error as Error).message}`,
		);
	}
}

function versionAnswer(config: unknown): object {
	const asked = (config as { cniVersion?: unknown } | null)?.cniVersion;
	const cniVersion = typeof asked === "string" ? asked : answerVersion(config);
	return { cniVersion, supportedVersions };
}

async function askAgent(request: CniRequest, invocation: Invocation): Promise<CniResponse> {
	const { socket } = invocation.config;
	const ask = async () => {
		const options = { body: request, timeoutMs: TIMEOUT_MS };
		const { status, body } = await call(socket, "POST", "/cni", options);
		if (status === 200) return body as CniResponse;
		if (status === STARTING) throw new StartingError();
		const is = (body as { error?: unknown } | undefined)?.error ?? `HTTP status ${status}`;
		throw new CniError(ErrorCode.TRY_AGAIN_LATER, `Cannot get an answer from the agent: ${is}`);
	};
	try {
		return await ask();
	} catch (error) {
		if (!isUnreachable(error) && !(error instanceof StartingError)) throw error;
		if (invocation.command === "DEL" && agentIsDown(error))
			return await deleteLater(dirname(socket), invocation.attachment, ask);
		const code =
			invocation.command === "STATUS" ? ErrorCode.NOT_AVAILABLE : ErrorCode.TRY_AGAIN_LATER;
		throw new CniError(code, error.message);
	}
}

/** See deletions.ts. */
async function deleteLater(
	runDir: string,
	id: EndpointId,
	ask: () => Promise<CniResponse>,
): Promise<CniResponse> {
	// No agent has run since the Node started, so nothing is attached.
	if (statSync(runDir, { throwIfNoEntry: false }) === undefined) return { status: 0 };
	noteDeletion(runDir, id);
	try {
		const answer = await ask();
		await forgetDeletion(runDir, id);
		return answer;
	} catch (error) {
		if (agentIsDown(error)) return { status: 0 };
		throw error;
	}
}

function isUnreachable(error: unknown): error is AgentUnreachableError {
	return error instanceof Error && error.name === "AgentUnreachableError";
}

/** Nobody listens, it ended while it was asked, or it is only starting; not: it is there and slow. */
function agentIsDown(error: unknown): boolean {
	if (error instanceof StartingError) return true;
	return (
		isUnreachable(error) && ["ENOENT", "ECONNREFUSED", "ECONNRESET", "EPIPE"].includes(error.code)
	);
}

/** HTTP status of an agent that listens and cannot answer yet. */
const STARTING = 503;

class StartingError extends Error {
	override message = "Cannot ask the agent: it is starting";
}

/** The whole program. */
export async function main(): Promise<void> {
	const { status, body } = await run(process.env, () => readFileSync(0, "utf8"));
	if (body !== undefined) process.stdout.write(`${JSON.stringify(body)}\n`);
	process.exitCode = status;
}

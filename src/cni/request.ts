/**
 * Validates the parameters of a plugin invocation. Pure. The plugin (cni/main.c) checks only what it needs to call
 * the agent, and to note a DEL or GC while no agent runs.
 *
 *  1 command      2 configuration: JSON, version, name      3 fields of the configuration
 *  4 variables that the command needs                       5 CNI_ARGS
 */
import { CniError, ErrorCode } from "./errors.js";
import type { CniRequest } from "./protocol.js";

/** Oldest first. The result's format depends on it, see result.ts. */
export const supportedVersions = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type CniVersion = (typeof supportedVersions)[number];
const newestVersion: CniVersion = "1.1.0";

const defaultSocket = "/run/fairway/agent.sock";

/** The commands except VERSION, and the CNI version that introduced each. */
const commandSince = {
	ADD: "0.3.1",
	DEL: "0.3.1",
	CHECK: "0.4.0",
	STATUS: "1.1.0",
	GC: "1.1.0",
} as const satisfies Record<string, CniVersion>;

export type Command = keyof typeof commandSince;

export interface NetworkConfiguration {
	cniVersion: CniVersion;
	/** Name of the network. */
	name: string;
	/** Path of the agent's socket. */
	socket: string;
	/** Copied into the result. */
	dns?: object;
	/** The Result of the previous plugin (ADD), or of this container's ADD (CHECK, DEL). */
	prevResult?: PreviousResult;
	/** The Pod asks for a limit of its bandwidth, which Fairway does not apply. */
	wantsBandwidthLimit?: true;
	/** GC: the attachments to keep. */
	validAttachments?: { containerId: string; ifName: string }[];
}

/** The part of a Result that is used; the rest is passed on unchanged. */
export interface PreviousResult {
	interfaces?: { name?: unknown; mac?: unknown; sandbox?: unknown }[];
	ips?: { address?: unknown; interface?: unknown }[];
	routes?: { dst?: unknown }[];
	dns?: object;
}

export interface Attachment {
	network: string;
	containerId: string;
	ifName: string;
	/** Empty: not given by the runtime (DEL of a sandbox that no longer exists). */
	netns: string;
	/** From CNI_ARGS. */
	namespace?: string;
	name?: string;
	uid?: string;
}

export type Invocation =
	| { command: "ADD" | "DEL" | "CHECK"; config: NetworkConfiguration; attachment: Attachment }
	| { command: "STATUS" | "GC"; config: NetworkConfiguration };

/** @throws CniError */
export function parseRequest(request: CniRequest): Invocation {
	const command = parseCommand(request.command);
	const config = parseConfiguration(request.config);
	if (!isAtLeast(config.cniVersion, commandSince[command])) {
		throw new CniError(
			ErrorCode.INCOMPATIBLE_VERSION,
			`Cannot ${command}: expected cniVersion ${commandSince[command]} or newer, got ${config.cniVersion}`,
		);
	}
	switch (command) {
		case "STATUS":
			return { command, config };
		case "GC":
			if (config.validAttachments === undefined) {
				throw new CniError(
					ErrorCode.INVALID_CONFIGURATION,
					'Cannot collect garbage: "cni.dev/valid-attachments" is missing',
				);
			}
			return { command, config };
		case "CHECK":
			if (config.prevResult === undefined) {
				throw new CniError(
					ErrorCode.INVALID_CONFIGURATION,
					'Cannot check the attachment: "prevResult" is missing',
				);
			}
			break;
	}
	return { command, config, attachment: parseAttachment(command, request, config.name) };
}

/** The version of the answer: the configuration's, if supported. */
export function answerVersion(config: unknown): CniVersion {
	const version = isObject(config) ? config.cniVersion : undefined;
	return supportedVersions.find((v) => v === version) ?? newestVersion;
}

export function isAtLeast(version: CniVersion, wanted: CniVersion): boolean {
	return supportedVersions.indexOf(version) >= supportedVersions.indexOf(wanted);
}

function parseCommand(command: unknown): Command {
	if (typeof command === "string" && Object.hasOwn(commandSince, command))
		return command as Command;
	throw invalidVariable("CNI_COMMAND", "ADD, DEL, CHECK, STATUS, GC or VERSION", command);
}

/* ------------------------------------------------------ configuration */

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

function parseConfiguration(config: unknown): NetworkConfiguration {
	if (!isObject(config)) {
		throw new CniError(
			ErrorCode.DECODING_FAILURE,
			`Cannot read the network configuration: expected a JSON object, got ${shown(config)}`,
		);
	}
	const { cniVersion, name, dns, prevResult } = config;
	const version = supportedVersions.find((v) => v === cniVersion);
	if (version === undefined) {
		throw new CniError(
			ErrorCode.INCOMPATIBLE_VERSION,
			`Cannot use cniVersion: expected one of ${supportedVersions.join(", ")}, got ${shown(cniVersion)}`,
		);
	}
	if (typeof name !== "string" || !NAME.test(name) || name.length > 64) {
		throw invalidField(
			"name",
			"1 to 64 letters, digits, '_', '.' or '-', a letter or digit first",
			name,
		);
	}
	const socket = config.socket ?? defaultSocket;
	if (typeof socket !== "string" || !socket.startsWith("/")) {
		throw invalidField("socket", "the absolute path of the agent's socket", socket);
	}
	refuseUnsupported(config);
	const parsed: NetworkConfiguration = { cniVersion: version, name, socket };
	if (dns !== undefined && dns !== null) {
		if (!isObject(dns)) throw invalidField("dns", "an object", dns);
		parsed.dns = dns;
	}
	if (prevResult !== undefined && prevResult !== null)
		parsed.prevResult = parsePreviousResult(prevResult);
	if (asksForBandwidth(config.runtimeConfig)) parsed.wantsBandwidthLimit = true;
	const attachments = config["cni.dev/valid-attachments"];
	if (attachments !== undefined) parsed.validAttachments = parseAttachments(attachments);
	return parsed;
}

/** Refuses fields whose request would silently be ignored. */
function refuseUnsupported(config: Record<string, unknown>): void {
	const { ipam, runtimeConfig } = config;
	if (isObject(ipam) && Object.keys(ipam).length > 0) {
		throw new CniError(
			ErrorCode.UNSUPPORTED_FIELD,
			`Cannot use "ipam": expected none (addresses come from the Node's pod CIDRs), got ${shown(ipam)}`,
		);
	}
	for (const field of ["ips", "ipRanges", "mac", "infinibandGUID", "deviceID"]) {
		const value = isObject(runtimeConfig) ? runtimeConfig[field] : undefined;
		if (value !== undefined && value !== null) {
			throw new CniError(
				ErrorCode.UNSUPPORTED_FIELD,
				`Cannot use "runtimeConfig.${field}": expected none (Fairway assigns addresses itself), got ${shown(value)}`,
			);
		}
	}
}

/** The capability `bandwidth`, which the runtime fills from the Pod's annotations. A rate of 0 is no limit. */
function asksForBandwidth(runtimeConfig: unknown): boolean {
	const bandwidth = isObject(runtimeConfig) ? runtimeConfig.bandwidth : undefined;
	if (!isObject(bandwidth)) return false;
	return [bandwidth.ingressRate, bandwidth.egressRate].some((rate) => Number(rate) > 0);
}

function parsePreviousResult(result: unknown): PreviousResult {
	if (!isObject(result)) throw invalidField("prevResult", "an object", result);
	for (const list of ["interfaces", "ips", "routes"]) {
		const value = result[list];
		if (value === undefined) continue;
		if (value === null) delete result[list];
		else if (!Array.isArray(value) || !value.every(isObject))
			throw invalidField(`prevResult.${list}`, "a list of objects", value);
	}
	return result as PreviousResult;
}

/** @throws CniError */
export function parseAttachments(value: unknown): { containerId: string; ifName: string }[] {
	const field = "cni.dev/valid-attachments";
	// Go's encoder writes an empty list as null.
	if (value === null) return [];
	if (!Array.isArray(value)) throw invalidField(field, "a list", value);
	return value.map((entry: unknown) => {
		const { containerID, ifname } = isObject(entry) ? entry : {};
		if (typeof containerID !== "string" || typeof ifname !== "string")
			throw invalidField(field, 'objects with the strings "containerID" and "ifname"', entry);
		return { containerId: containerID, ifName: ifname };
	});
}

/* ------------------------------------------------------ variables */

const CONTAINER_ID_MAX = 128;

function parseAttachment(
	command: "ADD" | "DEL" | "CHECK",
	{ containerId, netns, ifName, args }: CniRequest,
	network: string,
): Attachment {
	if (
		typeof containerId !== "string" ||
		!NAME.test(containerId) ||
		containerId.length > CONTAINER_ID_MAX
	) {
		const wanted = `1 to ${CONTAINER_ID_MAX} letters, digits, '_', '.' or '-', a letter or digit first`;
		throw invalidVariable("CNI_CONTAINERID", wanted, containerId);
	}
	// Narrower than the kernel, which allows quotes and control characters; iproute2 does not.
	if (
		typeof ifName !== "string" ||
		!/^[a-zA-Z0-9_.@,+-]{1,15}$/.test(ifName) ||
		/^\.\.?$/.test(ifName)
	)
		throw invalidVariable("CNI_IFNAME", "an interface name of 1 to 15 characters", ifName);
	if (typeof netns !== "string" || !/^(\/[^\s"'\\#]*)?$/.test(netns))
		throw invalidVariable("CNI_NETNS", "the absolute path of a network namespace", netns);
	if (netns === "" && command !== "DEL")
		throw invalidVariable("CNI_NETNS", "the absolute path of a network namespace", netns);
	return { network, containerId, ifName, netns, ...parseArgs(args) };
}

/** Parses "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;IgnoreUnknown=1"; other keys are ignored. */
function parseArgs(args: unknown): Pick<Attachment, "namespace" | "name" | "uid"> {
	const found: Pick<Attachment, "namespace" | "name" | "uid"> = {};
	if (args === undefined || args === "") return found;
	if (typeof args !== "string") throw invalidVariable("CNI_ARGS", "KEY=VALUE;KEY=VALUE", args);
	for (const pair of args.split(";")) {
		if (pair === "") continue;
		const equals = pair.indexOf("=");
		if (equals < 1) throw invalidVariable("CNI_ARGS", "KEY=VALUE;KEY=VALUE", args);
		const key = pair.slice(0, equals);
		const value = pair.slice(equals + 1);
		if (value === "") continue;
		if (key === "K8S_POD_NAMESPACE") found.namespace = value;
		if (key === "K8S_POD_NAME") found.name = value;
		if (key === "K8S_POD_UID") found.uid = value;
	}
	return found;
}

function invalidVariable(variable: string, wanted: string, is: unknown): CniError {
	return new CniError(
		ErrorCode.INVALID_ENVIRONMENT,
		`Cannot use ${variable}: expected ${wanted}, got ${shown(is)}`,
	);
}

function invalidField(field: string, wanted: string, is: unknown): CniError {
	return new CniError(
		ErrorCode.INVALID_CONFIGURATION,
		`Cannot use "${field}": expected ${wanted}, got ${shown(is)}`,
	);
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shown(value: unknown): string {
	if (value === undefined || value === "") return "nothing";
	const text = JSON.stringify(value);
	return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

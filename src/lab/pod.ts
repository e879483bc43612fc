/** Attaches and removes a Pod through the CNI plugin, as a container runtime does. */
import { createHash } from "node:crypto";
import type { Namespace, Output } from "./namespace.js";
import { command } from "./repository.js";
import { familyOf, withoutLength } from "./subnet.js";
import type { LabPod } from "./topology.js";

export interface Attachment {
	containerId: string;
	/** Without prefix length, by family. */
	addresses: { 4?: string; 6?: string };
}

export interface CniCall {
	verb: "ADD" | "DEL" | "CHECK" | "VERSION" | "STATUS" | "GC";
	pod: LabPod;
	/** The Node's namespace: a runtime runs plugins in the host's namespace. */
	node: Namespace;
	target: Namespace;
	socket: string;
	/** The result of ADD, for CHECK and DEL. */
	previous?: unknown;
	cniVersion?: string;
}

/** A sandbox id in containerd's format: 64 hexadecimal digits. */
export function containerId(target: Namespace): string {
	return createHash("sha256").update(target.name).digest("hex");
}

/** How a runtime calls the plugin: the program, its environment and its standard input. */
export function cniInvocation(call: CniCall): {
	command: string;
	environment: Record<string, string>;
	input: string;
} {
	const { verb, pod, target, socket, previous, cniVersion = "1.0.0" } = call;
	const config = {
		cniVersion,
		name: "fairway",
		type: "fairway-cni",
		socket,
		...(previous === undefined ? {} : { prevResult: previous }),
	};
	return {
		command: command("fairway-cni"),
		input: JSON.stringify(config),
		environment: {
			CNI_COMMAND: verb,
			CNI_CONTAINERID: containerId(target),
			CNI_NETNS: target.path,
			CNI_IFNAME: "eth0",
			CNI_PATH: command("fairway-cni").replace(/\/[^/]+$/, ""),
			CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name}`,
		},
	};
}

/** Runs the plugin once. Its status is a result, not an error. */
export function callCni(call: CniCall): Promise<Output> {
	const { command, environment, input } = cniInvocation(call);
	return call.node.run([command], { input, environment, mayFail: true });
}

/** @throws Error with the plugin's own error object. */
export async function attachPod(call: Omit<CniCall, "verb">): Promise<Attachment> {
	const { status, stdout, stderr } = await callCni({ ...call, verb: "ADD" });
	if (status !== 0)
		throw new Error(
			`Cannot attach ${call.pod.label}: fairway-cni ADD answered ${stdout.trim()}${stderr.trim()}`,
		);
	return readAttachment(containerId(call.target), stdout);
}

/** @param result what ADD printed: a CNI result object. */
function readAttachment(id: string, result: string): Attachment {
	const { ips = [] } = JSON.parse(result) as { ips?: { address: string }[] };
	const attachment: Attachment = { containerId: id, addresses: {} };
	for (const { address } of ips) attachment.addresses[familyOf(address)] = withoutLength(address);
	return attachment;
}

export async function detachPod(call: Omit<CniCall, "verb">): Promise<void> {
	const { status, stdout, stderr } = await callCni({ ...call, verb: "DEL" });
	if (status !== 0)
		throw new Error(
			`Cannot remove ${call.pod.label}: fairway-cni DEL answered ${stdout.trim()}${stderr.trim()}`,
		);
}

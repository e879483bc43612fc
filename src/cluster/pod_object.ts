/** Reads a Pod: what policies select by, and what it asks of the network. */
import {
	createdOf,
	listOf,
	type Mapping,
	mapping,
	nameOf,
	namespacedNameOf,
	readAddress,
	uidOf,
} from "./fields.js";
import { intern, type Labels, readLabels } from "./labels.js";

export interface PodObject {
	namespace: string;
	name: string;
	uid?: string;
	/** metadata.creationTimestamp, ms since the epoch; absent where it says nothing. */
	created?: number;
	/** For the mirror of a static Pod, the uid that the kubelet tells the CNI. */
	mirrorOf?: string;
	/** "": not yet on any. */
	node: string;
	labels: Labels;
	/** Canonical; its Node's with `hostNetwork`. */
	addresses: readonly string[];
	hostNetwork: boolean;
	/** Its containers have ended, its addresses may be another's. */
	ended: boolean;
	/** Its condition Ready, or it has none. */
	isReady: boolean;
	/** It has been deleted, and its containers may still serve. */
	isTerminating: boolean;
	/** Ports of its containers, restartable init containers included. */
	ports: readonly NamedPort[];
	/** Annotations by which it asks for a bandwidth limit. */
	limits: readonly string[];
	/**
	 * What a lab wrote back of a Pod that another file of the directory describes: its addresses and its
	 * Node. By itself it is no Pod.
	 */
	isWrittenBack?: true;
}

/** Marks what a lab wrote back. */
export const WRITTEN_BACK_ANNOTATION = "fairway.dev/lab-attached";

export interface NamedPort {
	name: string;
	port: number;
	protocol: string;
}

const NO_PORTS: readonly NamedPort[] = [];
const NO_TEXTS: readonly string[] = [];
const MIRROR = "kubernetes.io/config.mirror";
const LIMITS = ["kubernetes.io/egress-bandwidth", "kubernetes.io/ingress-bandwidth"];

/** @throws Fault */
export function readPod(object: Mapping): PodObject {
	const metadata = mapping(object.metadata);
	const spec = mapping(object.spec);
	const status = mapping(object.status);
	const annotations = mapping(metadata.annotations);
	const listed = listOf(status.podIPs, "status.podIPs").map((item, i) =>
		readAddress(mapping(item).ip, `status.podIPs[${i}].ip`),
	);
	const one = status.podIP;
	if (listed.length === 0 && one !== undefined && one !== null && one !== "")
		listed.push(readAddress(one, "status.podIP"));
	const limits = LIMITS.filter((name) => annotations[name] !== undefined);
	const [namespace = ""] = namespacedNameOf(object).split("/");
	const uid = uidOf(object);
	const created = createdOf(object);
	const mirrorOf = annotations[MIRROR];
	return {
		namespace: intern(namespace),
		name: nameOf(object),
		...(uid === undefined ? {} : { uid }),
		...(created === undefined ? {} : { created }),
		...(typeof mirrorOf === "string" ? { mirrorOf } : {}),
		node: typeof spec.nodeName === "string" ? intern(spec.nodeName) : "",
		labels: readLabels(metadata.labels),
		addresses: listed,
		hostNetwork: spec.hostNetwork === true,
		ended: status.phase === "Succeeded" || status.phase === "Failed",
		isReady: readReadiness(status),
		isTerminating: metadata.deletionTimestamp !== undefined && metadata.deletionTimestamp !== null,
		ports: readPorts(spec),
		limits: limits.length === 0 ? NO_TEXTS : limits,
		...(annotations[WRITTEN_BACK_ANNOTATION] === undefined ? {} : { isWrittenBack: true }),
	};
}

/** A Pod, with what a lab wrote back of it. */
export function withWrittenBack(pod: PodObject, { addresses, node }: PodObject): PodObject {
	return { ...pod, addresses, node: pod.node === "" ? node : pod.node };
}

function readReadiness(status: Mapping): boolean {
	const ready = listOf(status.conditions, "status.conditions")
		.map(mapping)
		.find(({ type }) => type === "Ready");
	return ready === undefined || ready.status === "True";
}

function readPorts(spec: Mapping): readonly NamedPort[] {
	const containers = listOf(spec.containers, "spec.containers").map(mapping);
	const restarted = listOf(spec.initContainers, "spec.initContainers")
		.map(mapping)
		.filter(({ restartPolicy }) => restartPolicy === "Always");
	const ports: NamedPort[] = [];
	for (const { ports: list } of [...containers, ...restarted])
		for (const item of listOf(list, "ports of a container")) {
			const { name, containerPort, protocol } = mapping(item);
			if (typeof name !== "string" || name === "" || typeof containerPort !== "number") continue;
			const kind = typeof protocol === "string" ? intern(protocol) : "TCP";
			ports.push({ name: intern(name), port: containerPort, protocol: kind });
		}
	return ports.length === 0 ? NO_PORTS : ports;
}

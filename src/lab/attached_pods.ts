/**
 * Writes the addresses of the Pods that the lab attached to a file beside the manifests, so that
 * the agents of all Nodes know all Pods. It adds to the Pods of those names, and goes with the lab.
 */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WRITTEN_BACK_ANNOTATION } from "../cluster/pod_object.js";
import type { Attachment } from "./pod.js";
import type { LabPod } from "./topology.js";

/** The mark that agents of former versions look for, which a lab may roll back to. */
const FORMER_ANNOTATION = "lab.fairway.io/attached";

export function attachedPodsFile(manifests: string, lab: string): string {
	return join(manifests, `fairway-lab-${lab}.json`);
}

/** @throws Error if the directory cannot be written. */
export function writeAttachedPods(
	file: string,
	lab: string,
	pods: readonly (readonly [LabPod, Attachment])[],
): void {
	const marks = { [WRITTEN_BACK_ANNOTATION]: lab, [FORMER_ANNOTATION]: lab };
	const items = pods.map(([{ namespace, name, node }, { addresses }]) => {
		const podIPs = Object.values(addresses).map((ip) => ({ ip }));
		return {
			...{ apiVersion: "v1", kind: "Pod" },
			metadata: { namespace, name, annotations: marks },
			...{ spec: { nodeName: node }, status: { podIPs } },
		};
	});
	const list = { apiVersion: "v1", kind: "List", items };
	// The name of the unfinished file is none of a manifest.
	const unfinished = `${file}.new`;
	writeFileSync(unfinished, `${JSON.stringify(list, null, "\t")}\n`);
	renameSync(unfinished, file);
}

export function removeAttachedPods(file: string): void {
	rmSync(file, { force: true });
}

/** The BPF file system of a Node, whose pins outlive containers. */
import { statfsSync } from "node:fs";
import { IpRoute } from "../linux/iproute.js";

/** BPF_FS_MAGIC of linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;

const isBpffs = (directory: string) => statfsSync(directory).type >>> 0 === BPF_FS_MAGIC;

/**
 * Mounts it on an existing directory unless it is there. In a container, the directory has to be a volume
 * with `mountPropagation: Bidirectional`; otherwise the mount is the container's and ends with it.
 *
 * @returns false: it was there
 */
export async function mountBpffs(directory: string): Promise<boolean> {
	if (isBpffs(directory)) return false;
	await new IpRoute().command("mount", "-t", "bpf", "bpf", directory);
	if (!isBpffs(directory))
		throw new Error(
			`Cannot mount the BPF file system: expected it at ${directory}, got another file system`,
		);
	return true;
}

/** Writes a folder as an OCI archive of one layer, which `ctr images import` stores under each name. */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/lab/namespace.js";

/** The object `config` of an image configuration. */
export interface ImageConfig {
	Entrypoint: string[];
	Cmd?: string[];
	User?: string;
	Env?: string[];
	ExposedPorts?: Record<string, object>;
}

interface Descriptor {
	mediaType: string;
	digest: string;
	size: number;
}

/** @param names the full names of the image, each with its tag */
export async function writeArchive(
	file: string,
	folder: string,
	config: ImageConfig,
	names: readonly string[],
): Promise<void> {
	const work = mkdtempSync(join(tmpdir(), "fairway-image-"));
	try {
		const blobs = join(work, "blobs/sha256");
		mkdirSync(blobs, { recursive: true });
		const blob = (content: Buffer, type: string): Descriptor => {
			const hash = createHash("sha256").update(content).digest("hex");
			writeFileSync(join(blobs, hash), content);
			return {
				mediaType: `application/vnd.oci.image.${type}`,
				digest: `sha256:${hash}`,
				size: content.length,
			};
		};
		const json = (value: object, type: string): Descriptor =>
			blob(Buffer.from(JSON.stringify(value)), type);

		const tar = join(work, "layer.tar");
		await run([
			...["tar", "-C", folder, "--owner=0", "--group=0", "--numeric-owner", "--sort=name"],
			...["--mtime=@0", "-cf", tar, "."],
		]);
		const layer = blob(readFileSync(tar), "layer.v1.tar");
		rmSync(tar);
		const architecture = process.arch === "arm64" ? "arm64" : "amd64";
		const rootfs = { type: "layers", diff_ids: [layer.digest] };
		const image = json({ architecture, os: "linux", config, rootfs }, "config.v1+json");
		const manifest = json(
			{
				schemaVersion: 2,
				mediaType: "application/vnd.oci.image.manifest.v1+json",
				config: image,
				layers: [layer],
			},
			"manifest.v1+json",
		);
		const manifests = names.map((name) => ({
			...manifest,
			annotations: { "io.containerd.image.name": name },
		}));
		writeFileSync(join(work, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
		writeFileSync(join(work, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
		await run(["tar", "-C", work, "-cf", `${file}.new`, "blobs", "index.json", "oci-layout"]);
		renameSync(`${file}.new`, file);
	} finally {
		rmSync(work, { recursive: true, force: true });
	}
}

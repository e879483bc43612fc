// npm run image: the container image, without Docker. Fills build/image-root (scripts/image/root.mjs) and
// packs it as build/fairway-image.tar (scripts/image/oci_archive.mjs), for containerd, kind and registries.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { writeOciArchive } from "./image/oci_archive.mjs";
import { fillRoot, imageArchitecture } from "./image/root.mjs";
import { say, top } from "./step.mjs";

/** The folder that deploy/Dockerfile copies. */
export const ROOT = "build/image-root";
export const ARCHIVE = "build/fairway-image.tar";
export const NAME = "localhost/fairway";

const { version } = JSON.parse(readFileSync(join(top, "package.json"), "utf8"));
export const TAG = version;

/** The "config" object of the image. deploy/Dockerfile has the same; a test compares them. */
export const CONFIG = {
	Env: ["PATH=/usr/local/bin:/usr/bin", "NODE_ENV=production"],
	Entrypoint: ["fairway"],
	Labels: {
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.title": "fairway",
		"org.opencontainers.image.version": version,
	},
};

/** `rootOnly`: stops when the folder is filled, for a Dockerfile. */
export function image({ rootOnly = false } = {}) {
	const architecture = imageArchitecture();
	say(`Filling ${ROOT}`);
	fillRoot(join(top, ROOT));
	if (rootOnly) return;
	const { bytes, digest } = writeOciArchive(join(top, ROOT), join(top, ARCHIVE), {
		name: NAME,
		tag: TAG,
		architecture,
		config: CONFIG,
	});
	say(`Wrote ${ARCHIVE}: ${NAME}:${TAG}, ${(bytes / 1e6).toFixed(1)} MB, ${digest}`);
}

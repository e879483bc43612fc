/**
 * The images that the cluster and upstream's specs start, as archives in the folder of images. Nothing is
 * pulled: pause is this project's, agnhost is built from its Go module.
 */
import { createHash } from "node:crypto";
import {
	existsSync,
	mkdirSync,
	mkdtempSync,
	readFileSync,
	rmSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { copyFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/lab/namespace.js";
import { type ImageConfig, writeArchive } from "./image_archive.js";
import { folders, program } from "./layout.js";

export interface Image {
	/** Full names, each with its tag. */
	names: readonly string[];
	config: ImageConfig;
	/** Files that it is made of: the archive is stale when one of them changed. */
	inputs: readonly string[];
	fill(folder: string): Promise<unknown>;
}

const source = (name: string): string => join(folders.source, "node", name);
const registry = "localhost/e2e";

/** What the image agnhost is made of, but for the machine's own programs. */
export const agnhostInputs: readonly string[] = [
	source("agnhost_root.sh"),
	...["agnhost", "agnhost-front", "coredns"].map(program),
];

const images: Record<string, Image> = {
	pause: {
		names: ["localhost/pause:3.10.2"],
		config: { Entrypoint: ["/pause"], User: "65535:65535" },
		inputs: [source("pause.c")],
		fill: (folder) =>
			run(["gcc", "-static", "-Os", "-s", "-o", join(folder, "pause"), source("pause.c")]),
	},
	agnhost: {
		// Some specs start other images for tools that this one has.
		names: [
			`${registry}/agnhost:2.66.1`,
			`${registry}/agnhost:2.55`,
			`${registry}/agnhost:2.45`,
			`${registry}/busybox:1.37.0-2`,
			`${registry}/glibc-dns-testing:2.1.1`,
		],
		config: {
			Entrypoint: ["/agnhost"],
			Cmd: ["pause"],
			Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
			ExposedPorts: Object.fromEntries(
				[80, 8080, 8081, 9376, 5000].map((port) => [`${port}/tcp`, {}]),
			),
		},
		inputs: agnhostInputs,
		fill: makeAgnhostRoot,
	},
	coredns: {
		names: ["localhost/coredns:1.15.0"],
		config: { Entrypoint: ["/coredns"] },
		inputs: [program("coredns")],
		fill: (folder) => copyFile(program("coredns"), join(folder, "coredns")),
	},
};

/** Fills the root of the image agnhost. */
export function makeAgnhostRoot(folder: string): Promise<unknown> {
	return run([source("agnhost_root.sh"), folders.bin, folder]);
}

/** Programs are large and only the build writes them: size and time tell them apart. */
function fingerprint(image: Image): string {
	const hash = createHash("sha256").update(JSON.stringify([image.names, image.config]));
	for (const file of image.inputs) {
		const { size, mtimeMs } = statSync(file);
		if (file.startsWith(folders.bin)) hash.update(`${file} ${size} ${mtimeMs}\n`);
		else hash.update(readFileSync(file));
	}
	return hash.digest("hex");
}

/** Makes the archives that every Node imports, where they are missing or stale. */
export async function makeImages(): Promise<void> {
	for (const [name, image] of Object.entries(images)) await make(folders.images, name, image);
}

/** Makes an archive that only one suite needs, if it is missing or stale. @returns its file */
export function makeImage(name: string, image: Image): Promise<string> {
	return make(join(folders.images, "suites"), name, image);
}

async function make(folder: string, name: string, image: Image): Promise<string> {
	mkdirSync(folder, { recursive: true });
	const archive = join(folder, `${name}.tar`);
	const stamp = join(folder, `${name}.inputs`);
	const now = fingerprint(image);
	if (existsSync(archive) && existsSync(stamp) && readFileSync(stamp, "utf8") === now)
		return archive;
	process.stderr.write(`fairway: Making the image ${name}\n`);
	const root = mkdtempSync(join(tmpdir(), "fairway-image-"));
	try {
		await image.fill(root);
		await writeArchive(archive, root, image.config, image.names);
		writeFileSync(stamp, now);
		return archive;
	} finally {
		rmSync(root, { recursive: true, force: true });
	}
}

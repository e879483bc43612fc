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

interface Image {
	names: readonly string[];
	config: ImageConfig;
	/** Files that it is made of: the archive is stale when one of them changed. */
	inputs: readonly string[];
	fill(folder: string): Promise<unknown>;
}

const source = (name: string): string => join(folders.source, "node", name);
const registry = "localhost/e2e";

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
			"localhost/e2e-test-images/agnhost:2.43",
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
		inputs: [source("agnhost_root.sh"), program("agnhost"), program("coredns")],
		fill: (folder) => run([source("agnhost_root.sh"), folders.bin, folder]),
	},
	coredns: {
		names: ["localhost/coredns:1.15.0"],
		config: { Entrypoint: ["/coredns"] },
		inputs: [program("coredns")],
		fill: (folder) => copyFile(program("coredns"), join(folder, "coredns")),
	},
};

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

/** Makes the archives that are missing or stale. */
export async function makeImages(): Promise<void> {
	mkdirSync(folders.images, { recursive: true });
	for (const [name, image] of Object.entries(images)) {
		const archive = join(folders.images, `${name}.tar`);
		const stamp = join(folders.images, `${name}.inputs`);
		const now = fingerprint(image);
		if (existsSync(archive) && existsSync(stamp) && readFileSync(stamp, "utf8") === now) continue;
		process.stderr.write(`fairway: Making the image ${name}\n`);
		const folder = mkdtempSync(join(tmpdir(), "fairway-image-"));
		try {
			await image.fill(folder);
			await writeArchive(archive, folder, image.config, image.names);
			writeFileSync(stamp, now);
		} finally {
			rmSync(folder, { recursive: true, force: true });
		}
	}
}

// An OCI image layout of one layer as a tar file, from a folder: the same bytes for the same folder.
//
//   1 layer: every entry of the folder, sorted by name, owned by root, without times
//   2 configuration, manifest and index, each named by its SHA-256
//   3 archive: what `ctr images import`, `kind load image-archive` and `skopeo copy oci-archive:` read
import { createHash } from "node:crypto";
import {
	closeSync,
	lstatSync,
	mkdirSync,
	openSync,
	readdirSync,
	readlinkSync,
	readSync,
	renameSync,
	rmSync,
	writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { Failure } from "../step.mjs";

const BLOCK = 512;
const PIECE = 1 << 20;
const MEDIA = "application/vnd.oci.image";

/** Entries of a folder as a tar has them, parents first: `{ path, type, mode, size, target }`. */
export function entriesOf(folder) {
	const entries = [];
	const visit = (path) => {
		// Not by locale: the order is part of the digest.
		for (const name of readdirSync(join(folder, path)).sort()) {
			const inner = path === "" ? name : `${path}/${name}`;
			const stats = lstatSync(join(folder, inner));
			const entry = { path: inner, mode: stats.mode & 0o7777, size: 0, target: "" };
			if (stats.isDirectory()) {
				entries.push({ ...entry, type: "directory" });
				visit(inner);
			} else if (stats.isSymbolicLink())
				entries.push({
					...entry,
					type: "link",
					mode: 0o777,
					target: readlinkSync(join(folder, inner)),
				});
			else if (stats.isFile()) entries.push({ ...entry, type: "file", size: stats.size });
			else
				throw new Failure(
					`Cannot pack ${inner}: expected a file, a directory or a link, got another kind.`,
				);
		}
	};
	visit("");
	return entries;
}

/** A ustar header (POSIX.1-1988), which has room for 100 + 155 characters of path. */
function header({ path, type, mode, size, target }) {
	const name = type === "directory" ? `${path}/` : path;
	let cut = -1;
	if (Buffer.byteLength(name) > 100) {
		cut = name.indexOf("/", name.length - 101);
		if (cut < 1 || cut > 155 || cut === name.length - 1)
			throw new Failure(
				`Cannot pack ${path}: expected a path of at most 255 bytes, got a longer one.`,
			);
	}
	if (Buffer.byteLength(target) > 100)
		throw new Failure(
			`Cannot pack ${path}: expected a link to at most 100 bytes, got a longer one.`,
		);
	const block = Buffer.alloc(BLOCK);
	const octal = (value, at, length) =>
		block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at);
	block.write(cut < 0 ? name : name.slice(cut + 1), 0);
	octal(mode, 100, 8);
	octal(0, 108, 8); // owner
	octal(0, 116, 8); // group
	octal(size, 124, 12);
	octal(0, 136, 12); // time
	block.fill(" ", 148, 156);
	block.write({ file: "0", link: "2", directory: "5" }[type], 156);
	block.write(target, 157);
	block.write("ustar\x0000", 257, "latin1");
	if (cut >= 0) block.write(name.slice(0, cut), 345);
	const sum = block.reduce((total, byte) => total + byte, 0);
	block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
	return block;
}

/** A tar file under construction, hashed as it is written. */
class Tar {
	#file;
	#hash = createHash("sha256");
	size = 0;

	constructor(path) {
		this.#file = openSync(path, "w");
	}

	#write(bytes) {
		for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at);
		this.#hash.update(bytes);
		this.size += bytes.length;
	}

	/** `content`: a Buffer or the path of a file; undefined: none. */
	add(entry, content) {
		this.#write(header(entry));
		if (Buffer.isBuffer(content)) this.#write(content);
		else if (content !== undefined) this.#copy(content, entry.size);
		this.#write(Buffer.alloc((BLOCK - (this.size % BLOCK)) % BLOCK));
	}

	#copy(path, size) {
		const source = openSync(path, "r");
		const piece = Buffer.allocUnsafe(PIECE);
		let left = size;
		for (let length = 1; length > 0; left -= length) {
			length = readSync(source, piece, 0, PIECE, null);
			this.#write(piece.subarray(0, length));
		}
		closeSync(source);
		if (left !== 0)
			throw new Failure(`Cannot pack ${path}: expected ${size} bytes, got ${size - left}.`);
	}

	/** @returns the SHA-256 of the whole file, as hexadecimal digits */
	end() {
		this.#write(Buffer.alloc(2 * BLOCK));
		closeSync(this.#file);
		return this.#hash.digest("hex");
	}
}

/**
 * Writes the archive.
 *
 * @param image `{ name, tag, architecture, config }`: "localhost/fairway", "0.1.0", "amd64", and the
 *   "config" object of the image specification (Env, Entrypoint, ...)
 */
export function writeOciArchive(folder, archive, { name, tag, architecture, config }) {
	mkdirSync(dirname(archive), { recursive: true });
	const layerFile = `${archive}.layer`;
	const layer = new Tar(layerFile);
	const entries = entriesOf(folder);
	for (const entry of entries)
		layer.add(entry, entry.type === "file" ? join(folder, entry.path) : undefined);
	const layerDigest = layer.end();

	const blobs = new Map([[layerDigest, layerFile]]);
	const blob = (value) => {
		const bytes = Buffer.from(JSON.stringify(value));
		const digest = createHash("sha256").update(bytes).digest("hex");
		blobs.set(digest, bytes);
		return { digest: `sha256:${digest}`, size: bytes.length };
	};
	const platform = { architecture, os: "linux" };
	const layerDescriptor = { digest: `sha256:${layerDigest}`, size: layer.size };
	const configDescriptor = blob({
		created: "1970-01-01T00:00:00Z",
		...platform,
		config,
		rootfs: { type: "layers", diff_ids: [layerDescriptor.digest] },
	});
	const manifestType = `${MEDIA}.manifest.v1+json`;
	const manifest = blob({
		schemaVersion: 2,
		mediaType: manifestType,
		config: { mediaType: `${MEDIA}.config.v1+json`, ...configDescriptor },
		layers: [{ mediaType: `${MEDIA}.layer.v1.tar`, ...layerDescriptor }],
	});
	const annotations = {
		"io.containerd.image.name": `${name}:${tag}`,
		"org.opencontainers.image.ref.name": tag,
	};
	const index = {
		schemaVersion: 2,
		mediaType: `${MEDIA}.index.v1+json`,
		manifests: [{ mediaType: manifestType, ...manifest, platform, annotations }],
	};

	const made = `${archive}.new`;
	const tar = new Tar(made);
	const directory = (path) =>
		tar.add({ path, type: "directory", mode: 0o755, size: 0, target: "" });
	const file = (path, content, size) =>
		tar.add({ path, type: "file", mode: 0o644, size, target: "" }, content);
	directory("blobs");
	directory("blobs/sha256");
	for (const digest of [...blobs.keys()].sort()) {
		const content = blobs.get(digest);
		file(`blobs/sha256/${digest}`, content, Buffer.isBuffer(content) ? content.length : layer.size);
	}
	for (const [path, value] of [
		["index.json", index],
		["oci-layout", { imageLayoutVersion: "1.0.0" }],
	]) {
		const bytes = Buffer.from(JSON.stringify(value));
		file(path, bytes, bytes.length);
	}
	tar.end();
	rmSync(layerFile);
	// A reader sees the former archive or the new one.
	renameSync(made, archive);
	return { entries: entries.length, bytes: layer.size, digest: manifest.digest };
}

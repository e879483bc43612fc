/** Shared by the addon's tests: the compiled test object, a directory for pins, packets. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type BpfMap, BpfObject } from "#native";

/** BPF_MAP_TYPE_* of linux/bpf.h. */
export const MAP_TYPE = {
	HASH: 1,
	ARRAY: 2,
	PERCPU_ARRAY: 6,
	LRU_HASH: 9,
	LPM_TRIE: 11,
	RINGBUF: 27,
} as const;

/** BPF_PROG_TYPE_*. */
export const PROGRAM_TYPE = { SCHED_CLS: 3, XDP: 6 } as const;

const directory = mkdtempSync(join(tmpdir(), "fairway-native-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

let compiled: string | undefined;

/** Path of fixture.bpf.c, compiled once for this process. */
export function objectPath(): string {
	if (compiled === undefined) {
		const source = new URL("fixture.bpf.c", import.meta.url).pathname;
		compiled = join(directory, "fixture.bpf.o");
		// The kernel's headers include <asm/types.h>, which Debian keeps in its multiarch directory.
		const include = `/usr/include/${execFileSync("gcc", ["-print-multiarch"]).toString().trim()}`;
		execFileSync(
			process.env.CLANG ?? "clang-19",
			`-target bpf -O2 -g -mcpu=v3 -Wall -Werror -I${include} -c ${source} -o ${compiled}`.split(
				" ",
			),
			{ stdio: ["ignore", "inherit", "inherit"] },
		);
	}
	return compiled;
}

/** Loads the test object with the given knobs. */
export function loadObject(knobs: { answer?: number } = {}): BpfObject {
	const object = BpfObject.open(objectPath());
	if (knobs.answer !== undefined)
		object.setReadOnlyData(object.readOnlyVariables.answer!.offset, u32(knobs.answer));
	object.load();
	return object;
}

let pins: string | undefined;

/** A directory on a bpffs, unique to this run and removed with all pins at exit. */
export function pinDirectory(): string {
	if (pins === undefined) {
		const mounts = readFileSync("/proc/self/mounts", "utf8");
		if (!/ \/sys\/fs\/bpf bpf /.test(mounts))
			execFileSync("mount", ["-t", "bpf", "bpf", "/sys/fs/bpf"]);
		const made = `/sys/fs/bpf/fairway-test-${process.pid}`;
		mkdirSync(made);
		process.on("exit", () => rmSync(made, { recursive: true, force: true }));
		pins = made;
	}
	return pins;
}

/** A 32-bit integer, little-endian as the machines that run these tests. */
export function u32(value: number): Buffer {
	const buffer = Buffer.alloc(4);
	buffer.writeUInt32LE(value);
	return buffer;
}

export function u64(value: bigint | number): Buffer {
	const buffer = Buffer.alloc(8);
	buffer.writeBigUInt64LE(BigInt(value));
	return buffer;
}

/** A frame of `length` zero bytes: enough for programs that do not parse it. */
export function frame(length = 64): Buffer {
	return Buffer.alloc(length);
}

/** The entries of a map with 4-byte keys and values of one size, as sorted pairs. */
export function pairs(map: BpfMap): [number, string][] {
	const { keys, values } = map.entries();
	const size = values.length / (keys.length / 4);
	return Array.from({ length: keys.length / 4 }, (_, index): [number, string] => [
		keys.readUInt32LE(4 * index),
		values.subarray(size * index, size * (index + 1)).toString("hex"),
	]).sort(([a], [b]) => a - b);
}

/** The kinds of this process's descriptors of BPF objects: "bpf-map", ... */
export function bpfDescriptors(): string[] {
	return readdirSync("/proc/self/fd").flatMap((fd) => {
		try {
			return /anon_inode:(bpf.*)/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1] ?? [];
		} catch {
			// The descriptor of the directory itself is closed by now.
			return [];
		}
	});
}

/** Collects all garbage, and runs the finalizers of native handles, which need a turn of the event loop. */
export async function collectGarbage(): Promise<void> {
	setFlagsFromString("--expose-gc");
	const gc = runInNewContext("gc") as () => void;
	for (let round = 0; round < 3; round++) {
		gc();
		await nextTurn();
	}
}

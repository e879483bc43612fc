// The addon over libbpf: thin, and hard to misuse. Buffers are checked against the map's own
// sizes; every failure throws a BpfError. Per-CPU values are valueSize rounded up to 8, times
// possibleCpus().

/**
 * Thrown by every call below when the kernel or libbpf refuses. Wrong arguments, and calls on
 * something closed, are a TypeError or RangeError instead.
 */
export class BpfError extends Error {
	constructor(message: string, errno: number, code: string);
	/** Positive errno; libbpf's own numbers start at 4000. */
	errno: number;
	/** Its name, "ENOENT". */
	code: string;
	/** The verifier's, libbpf's or the kernel's netlink message, whole, where there is one. */
	log?: string;
}

export interface MapInfo {
	id: number;
	/** BPF_MAP_TYPE_* */
	type: number;
	/** The kernel keeps 15 bytes of it. */
	name: string;
	keySize: number;
	valueSize: number;
	maxEntries: number;
	/** BPF_F_* */
	flags: number;
	/** 0: no BTF. */
	btfId: number;
	btfKeyTypeId: number;
	btfValueTypeId: number;
}

export interface ProgramInfo {
	id: number;
	/** The kernel keeps 15 bytes of it. */
	name: string;
	/** BPF_PROG_TYPE_* */
	type: number;
	/** 16 hex digits: same code, same tag. */
	tag: string;
	verifiedInstructions: number;
	/** Nanoseconds, CLOCK_BOOTTIME. */
	loadedAt: bigint;
}

export interface LinkInfo {
	id: number;
	/** BPF_LINK_TYPE_* */
	type: number;
	programId: number;
	/** 0: the device is gone. */
	ifindex: number;
	/** BPF_TCX_INGRESS 46, BPF_TCX_EGRESS 47, BPF_XDP 37; 0 if unknown */
	attachType: number;
}

export interface TestRunOptions {
	data: Buffer;
	/** struct __sk_buff or struct xdp_md, as bytes. */
	context?: Buffer;
	repeat?: number;
	/** Bytes of room for the packet that comes out; default: input + 256. */
	dataOutSize?: number;
	/** BPF_F_TEST_* */
	flags?: number;
	batchSize?: number;
}

export interface TestRunResult {
	/** What the program returned, signed (TC_ACT_UNSPEC is -1). */
	returnValue: number;
	data: Buffer;
	context?: Buffer;
	/** Nanoseconds a run, mean. */
	duration: number;
}

export class BpfObject {
	private constructor();
	/** Opens an ELF object; nothing is in the kernel yet. */
	static open(path: string): BpfObject;
	/** Without those that libbpf makes for global data. */
	readonly mapNames: string[];
	readonly programNames: string[];
	/** Where the `const volatile` variables lie in .rodata, in bytes, for setReadOnlyData(). */
	readonly readOnlyVariables: Record<string, { offset: number; size: number }>;
	setMaxEntries(map: string, entries: number): void;
	/**
	 * Uses an existing map in place of the one that the object would create. Its type, sizes and
	 * flags must be the same; the number of entries is the existing one's.
	 */
	reuseMap(map: string, existing: BpfMap): void;
	setAutoload(program: string, load: boolean): void;
	/** Overwrites bytes of .rodata (the `const volatile` knobs) before load. */
	setReadOnlyData(offset: number, value: Buffer): void;
	/**
	 * Into the kernel, once. `verifierLog`: keep the verifier's steps and statistics of every
	 * program (true) or the statistics only. A failure has the log in any case.
	 */
	load(options?: { verifierLog?: boolean | "statistics" }): void;
	/**
	 * As load, on another thread. Until it has settled, every other call on the object is a
	 * RangeError.
	 */
	loadAsync(options?: { verifierLog?: boolean | "statistics" }): Promise<void>;
	map(name: string): BpfMap;
	program(name: string): BpfProgram;
	/** The verifier's log of a program that was loaded with verifierLog. */
	verifierLog(program: string): string;
	close(): void;
}

export class BpfMap {
	private constructor();
	static openPinned(path: string): BpfMap;
	static openId(id: number): BpfMap;
	/** A map of its own, for tests and benches. */
	static create(options: {
		type: number;
		name: string;
		keySize: number;
		valueSize: number;
		maxEntries: number;
		flags?: number;
	}): BpfMap;
	readonly info: MapInfo;
	lookup(key: Buffer): Buffer | undefined;
	/** flags: 0 any, 1 no-exist, 2 exist. */
	update(key: Buffer, value: Buffer, flags?: number): void;
	/** False: there was none. */
	delete(key: Buffer): boolean;
	nextKey(key: Buffer | null): Buffer | undefined;
	/** keys and values one after another; count follows from their lengths. */
	updateBatch(keys: Buffer, values: Buffer, flags?: number): void;
	/** Keys that are not there are skipped. Returns how many were. */
	deleteBatch(keys: Buffer): number;
	/** The whole map. Falls back to key by key where the type has no batches (LPM tries on 6.1 included). */
	entries(): { keys: Buffer; values: Buffer };
	/**
	 * Some `room` entries of the map, from the start (cursor null) or from where an earlier slice
	 * ended; without `next` they are the last. The time of a call depends on `room` alone. Entries
	 * that come or go meanwhile may be missed or seen twice. A slice may be empty and not the last.
	 */
	slice(cursor: Buffer | null, room: number): { keys: Buffer; values: Buffer; next?: Buffer };
	/**
	 * The values of these keys as 64-bit words, each summed over all CPUs: valueSize / 8 words a
	 * key, one key after another. Zeros for keys that are not there.
	 */
	sums(keys: Buffer): BigUint64Array;
	pin(path: string): void;
	/** Raw BTF of the object that made the map, for migration; undefined without. */
	btf(): Buffer | undefined;
	close(): void;
}

export class BpfProgram {
	private constructor();
	static openPinned(path: string): BpfProgram;
	static openId(id: number): BpfProgram;
	readonly info: ProgramInfo;
	testRun(options: TestRunOptions): TestRunResult;
	pin(path: string): void;
	close(): void;
}

export type AttachType = "tcx_ingress" | "tcx_egress" | "xdp_native" | "xdp_generic";

export class BpfLink {
	private constructor();
	static attach(program: BpfProgram, ifindex: number, type: AttachType): BpfLink;
	static openPinned(path: string): BpfLink;
	static openId(id: number): BpfLink;
	readonly info: LinkInfo;
	/** Replaces the program, atomically. */
	update(program: BpfProgram): void;
	/** Takes the program off the device, pins or not. */
	detach(): void;
	pin(path: string): void;
	close(): void;
}

/** clsact, for kernels without tcx. Attaching replaces the filter of the same priority and handle, atomically. */
export const clsact: {
	attach(
		program: BpfProgram,
		ifindex: number,
		direction: "ingress" | "egress",
		priority: number,
		handle: number,
	): void;
	detach(
		ifindex: number,
		direction: "ingress" | "egress",
		priority: number,
		handle: number,
	): boolean;
	query(
		ifindex: number,
		direction: "ingress" | "egress",
		priority: number,
		handle: number,
	): { programId: number } | undefined;
};

export class RingBuffer {
	/** Calls back on the event loop, a record at a time (a copy). At most `burst` records a turn. */
	constructor(map: BpfMap, onRecord: (record: Buffer) => void, options?: { burst?: number });
	/** Whether an open ring keeps the process alive; it does at first. */
	ref(): this;
	unref(): this;
	/** Records not yet handed over stay in the map. */
	close(): void;
}

export function possibleCpus(): number;
/** True when the kernel takes tcx links (6.6). Tried, not guessed from the version. */
export function supportsTcx(): boolean;
/** Version of the linked libbpf, "1.1". */
export const libbpfVersion: string;

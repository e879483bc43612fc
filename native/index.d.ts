// The addon over libbpf. Buffers are checked against the map's sizes; every failure throws a BpfError.
// A per-CPU value has valueSize, rounded up to a multiple of 8, times possibleCpus() bytes.

/**
 * Thrown by every call below if the kernel or libbpf fails. Wrong arguments and calls on a closed
 * object throw a TypeError or RangeError instead.
 */
export class BpfError extends Error {
	constructor(message: string, errno: number, code: string);
	/** Positive errno; libbpf's own numbers start at 4000. */
	errno: number;
	/** Its name, "ENOENT". */
	code: string;
	/** The complete message of the verifier, of libbpf or of the kernel's netlink, if there is one. */
	log?: string;
}

export interface MapInfo {
	id: number;
	/** BPF_MAP_TYPE_* */
	type: number;
	/** Truncated by the kernel to 15 bytes. */
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
	/** Truncated by the kernel to 15 bytes. */
	name: string;
	/** BPF_PROG_TYPE_* */
	type: number;
	/** 16 hex digits; equal for equal code. */
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
	/** Size of the output buffer; default: input + 256. */
	dataOutSize?: number;
	/** BPF_F_TEST_* */
	flags?: number;
	batchSize?: number;
}

export interface TestRunResult {
	/** The program's return value, signed (TC_ACT_UNSPEC is -1). */
	returnValue: number;
	data: Buffer;
	context?: Buffer;
	/** Mean nanoseconds per run. */
	duration: number;
}

export class BpfObject {
	private constructor();
	/** Opens an ELF object without loading it into the kernel. */
	static open(path: string): BpfObject;
	/** Without the maps that libbpf creates for global data. */
	readonly mapNames: string[];
	readonly programNames: string[];
	/** Offsets and sizes of the `const volatile` variables in .rodata, for setReadOnlyData(). */
	readonly readOnlyVariables: Record<string, { offset: number; size: number }>;
	setMaxEntries(map: string, entries: number): void;
	/**
	 * Uses an existing map instead of creating one. Type, sizes and flags must be equal; the number of
	 * entries is that of the existing map.
	 */
	reuseMap(map: string, existing: BpfMap): void;
	setAutoload(program: string, load: boolean): void;
	/** Overwrites bytes of .rodata (the `const volatile` knobs) before load. */
	setReadOnlyData(offset: number, value: Buffer): void;
	/**
	 * Loads the object into the kernel, once. `verifierLog`: keep the verifier's steps and statistics
	 * of every program (true), or the statistics only. A failure always has the log.
	 */
	load(options?: { verifierLog?: boolean | "statistics" }): void;
	/**
	 * Like load, on another thread. Until the promise settles, every other call on the object throws a
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
	/** Creates a map without an object, for tests and benches. */
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
	/** Returns false if there was no such entry. */
	delete(key: Buffer): boolean;
	nextKey(key: Buffer | null): Buffer | undefined;
	/** Keys and values are concatenated; the count follows from their lengths. */
	updateBatch(keys: Buffer, values: Buffer, flags?: number): void;
	/** Skips missing keys. Returns the number of deleted entries. */
	deleteBatch(keys: Buffer): number;
	/** Reads the whole map; key by key where the type has no batches (such as LPM tries on 6.1). */
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
	/** Raw BTF of the object that created the map, for migration; undefined if there is none. */
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
	/** Detaches the program from the device, even if the link is pinned. */
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
	/** Calls back on the event loop with a copy of each record, at most `burst` records a turn. */
	constructor(map: BpfMap, onRecord: (record: Buffer) => void, options?: { burst?: number });
	/** Sets whether an open ring keeps the process alive; initially it does. */
	ref(): this;
	unref(): this;
	/** Undelivered records stay in the map. */
	close(): void;
}

/** Sends at once or throws (ENOBUFS, EAGAIN: the socket's buffer is full); it receives nothing. */
export class PacketSender {
	/** A whole Ethernet frame, at most the device's MTU after its header, out of the device: past the
	 * Node's routes and netfilter, through what is attached to the device's egress. */
	sendFrame(frame: Uint8Array, ifindex: number): void;
	/** An IP packet from its header on, by the Node's routes, whatever they know of its path's MTU. For
	 * IPv4 the kernel writes the header checksum, and an identification of 0 anew. */
	sendPacket(packet: Uint8Array): void;
	close(): void;
}

export function possibleCpus(): number;
/** Gives free pages of malloc back to the kernel. Returns whether there were some; false: not with this C library. */
export function trimMemory(): boolean;
/** True if the kernel supports tcx links (6.6). Tested, not inferred from the version. */
export function supportsTcx(): boolean;
/**
 * flock(2), exclusive, of an open descriptor's file; false: someone else has it. It lasts until the
 * descriptor is closed.
 */
export function flock(descriptor: number): boolean;
/**
 * Sends one message to a Unix datagram socket, "@name" for an abstract one, at once or throws (EAGAIN: its queue is
 * full).
 */
export function sendDatagram(path: string, text: string): void;
/** Version of the linked libbpf, "1.1". */
export const libbpfVersion: string;

export type Step =
	/** An rtnetlink request; `namespace`: its descriptor goes to the offset `namespaceAt`. */
	| { message: Buffer; namespace?: string; namespaceAt?: number }
	/** Writes a file of /proc/sys/net; `optional`: if there is one. */
	| { file: string; text: string; optional?: boolean }
	/** Switches an offload of a device, by the name in `ethtool -k`. */
	| { device: string; feature: string; on: boolean };

export interface StepResult {
	/** 0: done. */
	errno: number;
	/** "EEXIST", if it failed. */
	code?: string;
	/** "File exists", with the kernel's own explanation if it has one. */
	message?: string;
	/** Netlink messages of the answer, one after another; without the final acknowledgement. */
	data: Buffer;
	/** The offload was different. */
	changed: boolean;
}

/**
 * Executes the steps on another thread, in this network namespace or that of a path, in order until one
 * fails; the results of those that were executed. A namespace that cannot be entered is the failure of the
 * first.
 */
export function runSteps(steps: readonly Step[], namespace?: string): Promise<StepResult[]>;

/** The same in this network namespace, on this thread: for look-ups of some ten microseconds. */
export function runStepsNow(steps: readonly Step[]): StepResult[];

/** Reads the BPF object file before it is loaded: maps, knobs, identity. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { type Btf, parseBtf } from "../../tables/btf.js";
import { parseElf, sectionData } from "../../tables/elf.js";
import { type MapDefinition, mapDefinitions } from "../../tables/layout.js";
import type { Tables } from "../../tables/tables.js";

/** The `const volatile` variables that are set before loading. */
export interface Knobs {
	/** A wire interface is a veth: checksums may be unfinished. */
	vethWire: boolean;
	/** XDP is configured to run in generic mode. */
	xdpGeneric: boolean;
	/** The kernel supports BPF_F_ADJ_ROOM_DECAP_L3_*. */
	hasDecapL3: boolean;
	/** The kernel knows BPF_FIB_LOOKUP_SRC. */
	hasFibSource: boolean;
	/** The kernel knows BPF_FIB_LOOKUP_MARK. */
	hasFibMark: boolean;
	/** The kernel has bpf_skb_ct_lookup. Its module may be loaded later. */
	hasConntrack: boolean;
	/** bpf_cast_to_kern_ctx. */
	hasKernelContext: boolean;
	/** The CPU may reorder reads among themselves, and writes (all but x86). */
	weakMemoryOrder: boolean;
	/** max_entries of `flows`. */
	flowSlots: number;
}

/** The knobs that can be chosen; the size of the flow table is that of the maps. */
export function knobsOf(vethWire: boolean, xdp: Tables["xdp"]): Omit<Knobs, "flowSlots"> {
	return {
		vethWire,
		xdpGeneric: xdp === "generic",
		weakMemoryOrder: process.arch !== "x64",
		...kernelFeatures(),
		hasConntrack: hasConntrack(),
	};
}

export class ObjectFile {
	readonly path: string;
	readonly maps: ReadonlyMap<string, MapDefinition>;
	/** SHA-256 of the file. */
	readonly digest: string;
	readonly #knobs: ReadonlyMap<string, { offset: number; size: number }>;

	private constructor(path: string, file: Buffer) {
		const elf = parseElf(file);
		const btf: Btf = parseBtf(sectionData(elf, ".BTF"));
		this.path = path;
		this.digest = createHash("sha256").update(file).digest("hex");
		this.maps = new Map(mapDefinitions(btf).map((map) => [map.name, map]));
		const readOnly = elf.sections.findIndex(({ name }) => name === ".rodata");
		this.#knobs = new Map(
			elf.symbols
				.filter(({ section }) => section === readOnly)
				.map(({ name, value, size }) => [name, { offset: value, size }]),
		);
	}

	static read(path: string): ObjectFile {
		let file: Buffer;
		try {
			file = readFileSync(path);
		} catch (error) {
			throw new Error(`Cannot read BPF object ${path}: ${(error as Error).message}`);
		}
		try {
			return new ObjectFile(path, file);
		} catch (error) {
			throw new Error(`${(error as Error).message} (${path})`);
		}
	}

	/** The knobs as bytes of .rodata, without knobs that this object does not have. */
	knobBytes(knobs: Knobs): { offset: number; value: Buffer }[] {
		const values: [string, number][] = [
			["veth_wire", Number(knobs.vethWire)],
			["xdp_generic", Number(knobs.xdpGeneric)],
			["has_decap_l3", Number(knobs.hasDecapL3)],
			["has_fib_source", Number(knobs.hasFibSource)],
			["has_fib_mark", Number(knobs.hasFibMark)],
			["has_conntrack", Number(knobs.hasConntrack)],
			["has_kernel_context", Number(knobs.hasKernelContext)],
			["weak_memory_order", Number(knobs.weakMemoryOrder)],
			["flow_slots", knobs.flowSlots],
		];
		return values.flatMap(([name, number]) => {
			const place = this.#knobs.get(name);
			if (place === undefined) return [];
			const value = Buffer.alloc(place.size);
			value.writeUIntLE(number, 0, Math.min(place.size, 6));
			return [{ offset: place.offset, value }];
		});
	}
}

type KernelFeatures = Pick<
	Knobs,
	"hasDecapL3" | "hasFibSource" | "hasFibMark" | "hasConntrack" | "hasKernelContext"
>;

let features: KernelFeatures | undefined;

/**
 * What newer kernels can: bpf_skb_adjust_room takes BPF_F_ADJ_ROOM_DECAP_L3_IPV4/6 (Linux 6.3),
 * bpf_fib_lookup BPF_FIB_LOOKUP_SRC (6.7) and BPF_FIB_LOOKUP_MARK (6.10); bpf_cast_to_kern_ctx is there
 * from 6.2 on. Asked of the kernel
 * itself: the flags' names are in its type information.
 */
export function kernelFeatures(vmlinuxBtf = "/sys/kernel/btf/vmlinux"): KernelFeatures {
	features ??= (() => {
		let btf: Buffer = Buffer.alloc(0);
		try {
			btf = readFileSync(vmlinuxBtf);
		} catch {
			// Then nothing is known to be there.
		}
		const knows = (name: string) => btf.includes(`\0${name}\0`);
		return {
			hasDecapL3: knows("BPF_F_ADJ_ROOM_DECAP_L3_IPV4"),
			hasFibSource: knows("BPF_FIB_LOOKUP_SRC"),
			hasFibMark: knows("BPF_FIB_LOOKUP_MARK"),
			hasConntrack: knows("bpf_skb_ct_lookup"),
			hasKernelContext: knows("bpf_cast_to_kern_ctx"),
		};
	})();
	return features;
}

let module = false;

/**
 * Whether the kernel has bpf_skb_ct_lookup (Linux 6.0), built in or in its module nf_conntrack, which
 * may be loaded at any time. Asked of their type information, which names the function.
 */
export function hasConntrack(moduleBtf = "/sys/kernel/btf/nf_conntrack"): boolean {
	if (kernelFeatures().hasConntrack) return true;
	try {
		module ||= readFileSync(moduleBtf).includes("\0bpf_skb_ct_lookup\0");
	} catch {
		// It is not loaded.
	}
	return module;
}

/**
 * Loads every program of the BPF object on the kernel that this runs on, alone and with the
 * verifier's statistics, and attaches it to a device where Fairway would. Run in a network
 * namespace of its own; prints one line, `load: ` and a Report.
 */
import { execFileSync } from "node:child_process";
import { release } from "node:os";
import { join } from "node:path";
import {
	type AttachType,
	BpfError,
	BpfLink,
	BpfObject,
	type BpfProgram,
	clsact,
	supportsTcx,
} from "#native";
import { root } from "../../../src/lab/repository.js";
import { hasConntrack, kernelFeatures } from "../../../src/reconcile/programs/object_file.js";

export interface Loaded {
	program: string;
	/** Which knobs were on. */
	knobs: string;
	/** What the kernel refused to load or attach, with the verifier's last words. */
	refused?: string;
	instructions: number;
	/** The verifier's own time, and that of the whole load() with maps and JIT. */
	verifierMs: number;
	loadMs: number;
	/** How it was attached. */
	attached: string[];
}

export interface Report {
	kernel: string;
	tcx: boolean;
	decapL3: boolean;
	/** The calls of connection tracking are in what was loaded. */
	conntrack: boolean;
	loaded: Loaded[];
}

const objectPath = join(root, "build/bpf/fairway.bpf.o");
const XDP = 6;

/** The knobs that follow the kernel. */
const features = {
	has_decap_l3: Number(kernelFeatures().hasDecapL3),
	has_fib_source: Number(kernelFeatures().hasFibSource),
	has_fib_mark: Number(kernelFeatures().hasFibMark),
	has_conntrack: Number(hasConntrack()),
	has_kernel_context: Number(kernelFeatures().hasKernelContext),
};

/** These always; and those that cut the most, and the least, code away. */
const variants: Record<string, Record<string, number>> = {
	production: { ...features, veth_wire: 0, trace_verdicts: 0 },
	tests: { ...features, veth_wire: 1, trace_verdicts: 1 },
};

function open(only: string, knobs: Record<string, number>): BpfObject {
	const object = BpfObject.open(objectPath);
	for (const [name, value] of Object.entries(knobs)) {
		const place = object.readOnlyVariables[name];
		if (place === undefined) throw new Error(`Cannot set knob ${name}: the object has none`);
		object.setReadOnlyData(place.offset, Buffer.from([value]));
	}
	for (const name of object.programNames) object.setAutoload(name, name === only);
	return object;
}

/** Attaches, and takes off again, in every way that this kernel has. */
function attach(program: BpfProgram, ifindex: number): string[] {
	const link = (type: AttachType) => {
		const attached = BpfLink.attach(program, ifindex, type);
		attached.detach();
		attached.close();
		return type;
	};
	if (program.info.type === XDP) return [link("xdp_native"), link("xdp_generic")];
	for (const direction of ["ingress", "egress"] as const) {
		clsact.attach(program, ifindex, direction, 0xfa1c, 1);
		clsact.detach(ifindex, direction, 0xfa1c, 1);
	}
	return supportsTcx() ? [link("tcx_ingress"), link("tcx_egress"), "clsact"] : ["clsact"];
}

function load(program: string, knobs: string, ifindex: number): Loaded {
	const object = open(program, variants[knobs]!);
	const result = { program, knobs, instructions: 0, verifierMs: 0, loadMs: 0, attached: [] };
	try {
		const start = process.hrtime.bigint();
		object.load({ verifierLog: "statistics" });
		const loadMs = Number(process.hrtime.bigint() - start) / 1e6;
		const log = object.verifierLog(program);
		const verifierMs = Number(/verification time (\d+) usec/.exec(log)?.[1] ?? Number.NaN) / 1e3;
		const loaded = object.program(program);
		const instructions = loaded.info.verifiedInstructions;
		return { ...result, instructions, verifierMs, loadMs, attached: attach(loaded, ifindex) };
	} catch (error) {
		if (!(error instanceof BpfError)) throw error;
		return { ...result, refused: `${error.message}\n${error.log?.slice(-2000) ?? ""}` };
	} finally {
		object.close();
	}
}

const ip = (command: string) => execFileSync("ip", command.split(" ")).toString();
ip("link add dev a type veth peer name b");
const { ifindex } = JSON.parse(ip("-json link show dev a"))[0] as { ifindex: number };

const names = BpfObject.open(objectPath).programNames;
const report: Report = {
	kernel: release(),
	tcx: supportsTcx(),
	decapL3: kernelFeatures().hasDecapL3,
	conntrack: hasConntrack(),
	loaded: Object.keys(variants).flatMap((knobs) => names.map((name) => load(name, knobs, ifindex))),
};
process.stdout.write(`load: ${JSON.stringify(report)}\n`);

/**
 * What is attached where: tcx links where the kernel has them, clsact filters where not, XDP.
 *
 * A link is pinned as PROGRAM-IFINDEX, an XDP link with its mode behind that. A pinned link gets a
 * new program by an atomic update: there is no packet that neither the old nor the new one sees.
 */
import {
	type AttachType,
	type BpfError,
	BpfLink,
	type BpfProgram,
	clsact,
	supportsTcx,
} from "#native";
import type { ProgramName, Programs } from "./datapath.js";
import type { Log } from "./log.js";
import { FILTER_HANDLE, FILTER_PRIORITY, isPodInterface } from "./names.js";
import type { Pins } from "./pins.js";

export type XdpMode = "native" | "generic" | "off";

export interface Device {
	name: string;
	ifindex: number;
}

/** A TC program on a device. */
export interface Hook {
	program: Exclude<ProgramName, "from_wire_xdp">;
	device: Device;
}

export interface AttachFailure {
	device: string;
	message: string;
	/** The device is gone, as a Pod's is when its Pod ends. */
	gone: boolean;
}

interface Place {
	ifindex: number;
	direction: "ingress" | "egress";
}

function placeName({ ifindex, direction }: Place): string {
	return `${ifindex} ${direction}`;
}

const directions = {
	from_pod: "ingress",
	from_wire: "ingress",
	to_pod: "egress",
	from_host: "egress",
} as const satisfies Record<Hook["program"], "ingress" | "egress">;

/** XDP_FLAGS_HW_MODE is not offered. */
const xdpModes = ["native", "generic"] as const;

export class Attachments {
	readonly tcx: boolean;
	readonly #pins: Pins;
	readonly #log: Log;
	readonly #links = new Map<string, BpfLink>();
	readonly #unreadable = new Set<string>();
	/**
	 * Where filters of clsact are or may be; no pin tells of them. By place, not by program: there
	 * is one filter of ours a place, whichever it is.
	 */
	readonly #filters = new Map<string, Place>();

	/** Opens the pinned links; those of devices that are gone are removed. */
	constructor(pins: Pins, log: Log, tcx = supportsTcx()) {
		this.#pins = pins;
		this.#log = log;
		this.tcx = tcx;
		for (const name of pins.linkNames()) {
			const link = this.#open(name);
			if (link === undefined) continue;
			if (link.info.ifindex === Number(name.split("-")[1])) this.#links.set(name, link);
			else this.#drop(name, link);
		}
	}

	/** A pin that is no link is nobody's that we know: it goes with the first sweep. */
	#open(name: string): BpfLink | undefined {
		try {
			return BpfLink.openPinned(this.#pins.link(name));
		} catch (error) {
			this.#log.warn(
				{ link: name, error: (error as Error).message },
				"a pinned link cannot be read",
			);
			this.#unreadable.add(name);
			return undefined;
		}
	}

	/**
	 * Attaches what is not, and swaps programs that are not these. Returns what was refused. A Pod's
	 * interface may go at any moment, with its Pod: such a failure is marked.
	 */
	attach(
		hooks: readonly Hook[],
		programs: Programs,
	): { writes: number; failures: AttachFailure[] } {
		const failures: AttachFailure[] = [];
		let writes = 0;
		for (const hook of hooks) {
			const program = programOf(programs, hook.program);
			try {
				const changed = this.tcx
					? this.#attachLink(hook, program)
					: this.#attachFilter(hook, program);
				if (changed) writes++;
			} catch (error) {
				const { name: device } = hook.device;
				const gone = (error as BpfError).code === "ENODEV" && isPodInterface(device);
				const message = refusal(hook.program, hook.device, error);
				if (gone) this.#log.debug({ interface: device }, "a Pod's interface went meanwhile");
				failures.push({ device, message, gone });
			}
		}
		return { writes, failures };
	}

	#attachLink({ program: name, device }: Hook, program: BpfProgram): boolean {
		const type: AttachType = `tcx_${directions[name]}`;
		return this.#ensure(`${name}-${device.ifindex}`, device.ifindex, program, type);
	}

	#attachFilter(hook: Hook, program: BpfProgram): boolean {
		const { ifindex } = hook.device;
		const direction = directions[hook.program];
		this.#filters.set(placeName({ ifindex, direction }), { ifindex, direction });
		const present = clsact.query(ifindex, direction, FILTER_PRIORITY, FILTER_HANDLE);
		if (present?.programId === program.info.id) return false;
		clsact.attach(program, ifindex, direction, FILTER_PRIORITY, FILTER_HANDLE);
		return true;
	}

	/** True when something had to be done. */
	#ensure(name: string, ifindex: number, program: BpfProgram, type: AttachType): boolean {
		const existing = this.#links.get(name);
		if (existing !== undefined) {
			const { info } = existing;
			if (info.ifindex === ifindex) {
				if (info.programId === program.info.id) return false;
				if (this.#update(name, existing, program)) return true;
			}
			this.#drop(name, existing);
		}
		const link = BpfLink.attach(program, ifindex, type);
		try {
			this.#pins.remove(this.#pins.link(name));
			link.pin(this.#pins.link(name));
		} catch (error) {
			link.close();
			throw error;
		}
		this.#links.set(name, link);
		return true;
	}

	/** False: the kernel does not put this program in the place of that one (other attach types). */
	#update(name: string, link: BpfLink, program: BpfProgram): boolean {
		try {
			link.update(program);
			return true;
		} catch (error) {
			const facts = { link: name, error: (error as Error).message };
			this.#log.warn(facts, "a program cannot be swapped; attaching it anew");
			return false;
		}
	}

	/**
	 * from_wire_xdp in this mode. A device that has it in another mode loses that first: the kernel
	 * takes one. from_wire sees the packets that come in between.
	 */
	attachXdp(
		device: Device,
		mode: XdpMode,
		programs: Programs,
	): { writes: number; failure?: string } {
		let writes = 0;
		for (const other of xdpModes) {
			const name = xdpName(device.ifindex, other);
			const link = this.#links.get(name);
			if (other === mode || link === undefined) continue;
			this.#drop(name, link);
			writes++;
		}
		if (mode === "off") return { writes };
		try {
			const program = programOf(programs, "from_wire_xdp");
			const name = xdpName(device.ifindex, mode);
			if (this.#ensure(name, device.ifindex, program, `xdp_${mode}`)) writes++;
			return { writes };
		} catch (error) {
			return { writes, failure: refusal(`from_wire_xdp (${mode})`, device, error) };
		}
	}

	xdpMode(ifindex: number): XdpMode {
		return xdpModes.find((mode) => this.#links.has(xdpName(ifindex, mode))) ?? "off";
	}

	/** Detaches what is on devices that no hook names any more, and forgets devices that are gone. */
	sweep(hooks: readonly Hook[], xdpDevices: readonly Device[]): number {
		const wanted = new Set(hooks.map(({ program, device }) => `${program}-${device.ifindex}`));
		for (const { ifindex } of xdpDevices)
			for (const mode of xdpModes) wanted.add(xdpName(ifindex, mode));
		let removed = this.#unreadable.size;
		for (const name of this.#unreadable) this.#pins.remove(this.#pins.link(name));
		this.#unreadable.clear();
		for (const [name, link] of this.#links) {
			if (wanted.has(name)) continue;
			this.#log.info({ link: name }, "detached what is no longer wanted");
			this.#drop(name, link);
			removed++;
		}
		const places = new Set(
			hooks.map(({ program, device: { ifindex } }) =>
				placeName({ ifindex, direction: directions[program] }),
			),
		);
		for (const [name, { ifindex, direction }] of this.#filters) {
			if (places.has(name)) continue;
			this.#filters.delete(name);
			if (detachFilter(ifindex, direction)) removed++;
		}
		return removed;
	}

	/** Takes note of clsact filters that an earlier agent left on these devices. */
	adoptFilters(devices: readonly Device[]): void {
		if (this.tcx) return;
		for (const { ifindex } of devices)
			for (const direction of ["ingress", "egress"] as const)
				this.#filters.set(placeName({ ifindex, direction }), { ifindex, direction });
	}

	/** Closes descriptors; everything stays attached. */
	close(): void {
		for (const link of this.#links.values()) link.close();
		this.#links.clear();
	}

	#drop(name: string, link: BpfLink): void {
		this.#links.delete(name);
		// An explicit detach works at once, whoever else holds a descriptor of the link.
		try {
			link.detach();
		} catch (error) {
			this.#log.debug(
				{ link: name, error: (error as Error).message },
				"the link was detached before",
			);
		}
		link.close();
		this.#pins.remove(this.#pins.link(name));
	}
}

export function detachFilter(ifindex: number, direction: "ingress" | "egress"): boolean {
	try {
		return clsact.detach(ifindex, direction, FILTER_PRIORITY, FILTER_HANDLE);
	} catch {
		return false; // The device is gone, and the filter with it.
	}
}

function xdpName(ifindex: number, mode: (typeof xdpModes)[number]): string {
	return `from_wire_xdp-${ifindex}-${mode}`;
}

function programOf(programs: Programs, name: ProgramName): BpfProgram {
	const program = programs.get(name);
	if (program !== undefined) return program;
	throw new Error(`Cannot attach ${name}: wanted a loaded program, it is not loaded`);
}

/** The message has the verifier's or the driver's own words where the kernel gives them. */
function refusal(program: string, { name }: Device, error: unknown): string {
	const { message, log } = error as BpfError;
	const said = log === undefined || log === "" ? message : `${message}: ${log.trim()}`;
	return `Cannot attach ${program} to ${name}: ${said}`;
}

/**
 * Attaches programs to devices: tcx links, or clsact filters on kernels without tcx, and XDP.
 *
 * Pods' interfaces have filters on every kernel. A tcx link waits for a grace period of RCU with every
 * attach (tcx_entry_sync), under the kernel's lock for all devices: two of them are 20 ms of each Pod's start,
 * in which no other Pod starts. Links of an earlier version stay until their Pods end.
 *
 * A link is pinned as PROGRAM-IFINDEX, an XDP link with its mode appended. A pinned link gets a new program
 * by an atomic update: every packet meets either the old or the new program.
 */

import {
	type AttachType,
	type BpfError,
	BpfLink,
	type BpfProgram,
	clsact,
	supportsTcx,
} from "#native";
import { FILTER_HANDLE, FILTER_PRIORITY, isPodInterface } from "../../linux/names.js";
import type { XdpMode } from "../../tables/tables.js";
import type { Log } from "../../text/log.js";
import type { ProgramName, Programs } from "./datapath.js";
import type { Pins } from "./pins.js";

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
	from_link: "ingress",
	to_wire: "egress",
	from_loopback: "egress",
} as const satisfies Record<Hook["program"], "ingress" | "egress">;

/** XDP_FLAGS_HW_MODE is not supported. */
const xdpModes = ["native", "generic"] as const;

export class Hooks {
	readonly tcx: boolean;
	readonly #pins: Pins;
	readonly #log: Log;
	readonly #links = new Map<string, BpfLink>();
	readonly #unreadable = new Set<string>();
	/**
	 * Places that have or may have clsact filters, which have no pins. By place, not by program: each
	 * place has at most one filter of Fairway.
	 */
	readonly #filters = new Map<string, Place>();
	/** Programs of filters that were seen in place, by place: asking for each costs a netlink socket. */
	readonly #seen = new Map<string, number>();

	/** Opens the pinned links; removes those of devices that no longer exist. */
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

	/** A pin that is not a link is unknown; the first sweep removes it. */
	#open(name: string): BpfLink | undefined {
		try {
			return BpfLink.openPinned(this.#pins.link(name));
		} catch (error) {
			this.#log.warn({ link: name, err: error }, "cannot read a pinned link");
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
				const changed = this.#usesLink(hook)
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

	#usesLink({ program, device: { name, ifindex } }: Hook): boolean {
		return this.tcx && (!isPodInterface(name) || this.#links.has(`${program}-${ifindex}`));
	}

	#attachLink({ program: name, device }: Hook, program: BpfProgram): boolean {
		const type: AttachType = `tcx_${directions[name]}`;
		return this.#ensure(`${name}-${device.ifindex}`, device.ifindex, program, type);
	}

	#attachFilter(hook: Hook, program: BpfProgram): boolean {
		const { ifindex } = hook.device;
		const direction = directions[hook.program];
		const place = placeName({ ifindex, direction });
		const { id } = program.info;
		if (this.#seen.get(place) === id) return false;
		this.#filters.set(place, { ifindex, direction });
		const present = clsact.query(ifindex, direction, FILTER_PRIORITY, FILTER_HANDLE);
		const changed = present?.programId !== id;
		if (changed) clsact.attach(program, ifindex, direction, FILTER_PRIORITY, FILTER_HANDLE);
		this.#seen.set(place, id);
		return changed;
	}

	/** Someone may have removed filters, of which the kernel sends no message: looks at them again. */
	doubt(): void {
		this.#seen.clear();
	}

	/** Returns true if something had to be done. */
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

	/** False: the kernel cannot replace that program by this one (another attach type). */
	#update(name: string, link: BpfLink, program: BpfProgram): boolean {
		try {
			link.update(program);
			return true;
		} catch (error) {
			const facts = { link: name, error: (error as Error).message };
			this.#log.warn(facts, "cannot replace a program in its link, attaching anew");
			return false;
		}
	}

	/**
	 * Attaches from_wire_xdp in this mode. Another mode is detached first, because the kernel allows only
	 * one; from_wire sees the packets that arrive in between.
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

	/** Detaches programs from devices that no hook names, and forgets devices that no longer exist. */
	sweep(hooks: readonly Hook[], xdpDevices: readonly Device[]): number {
		const wanted = new Set(hooks.map(({ program, device }) => `${program}-${device.ifindex}`));
		for (const { ifindex } of xdpDevices)
			for (const mode of xdpModes) wanted.add(xdpName(ifindex, mode));
		let removed = this.#unreadable.size;
		for (const name of this.#unreadable) this.#pins.remove(this.#pins.link(name));
		this.#unreadable.clear();
		for (const [name, link] of this.#links) {
			if (wanted.has(name)) continue;
			this.#log.info({ link: name }, "detached an unused program");
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
			this.#seen.delete(name);
			if (detachFilter(ifindex, direction)) removed++;
		}
		return removed;
	}

	/** Records clsact filters that an earlier agent left on these devices. */
	adoptFilters(devices: readonly Device[]): void {
		for (const { name, ifindex } of devices)
			for (const direction of ["ingress", "egress"] as const)
				if (!this.tcx || isPodInterface(name))
					this.#filters.set(placeName({ ifindex, direction }), { ifindex, direction });
	}

	/** Closes descriptors; everything stays attached. */
	close(): void {
		for (const link of this.#links.values()) link.close();
		this.#links.clear();
	}

	#drop(name: string, link: BpfLink): void {
		this.#links.delete(name);
		// An explicit detach works at once, even if another process holds a descriptor of the link.
		try {
			link.detach();
		} catch (error) {
			this.#log.debug({ link: name, err: error }, "link was detached already");
		}
		link.close();
		this.#pins.remove(this.#pins.link(name));
	}
}

export function hasFilter(ifindex: number, direction: "ingress" | "egress"): boolean {
	try {
		return clsact.query(ifindex, direction, FILTER_PRIORITY, FILTER_HANDLE) !== undefined;
	} catch {
		return false;
	}
}

export function detachFilter(ifindex: number, direction: "ingress" | "egress"): boolean {
	try {
		return clsact.detach(ifindex, direction, FILTER_PRIORITY, FILTER_HANDLE);
	} catch {
		return false; // The device no longer exists, and so neither does the filter.
	}
}

function xdpName(ifindex: number, mode: (typeof xdpModes)[number]): string {
	return `from_wire_xdp-${ifindex}-${mode}`;
}

function programOf(programs: Programs, name: ProgramName): BpfProgram {
	const program = programs.get(name);
	if (program !== undefined) return program;
	throw new Error(`Cannot attach ${name}: the program is not loaded`);
}

/** An error message with the text of the verifier or the driver, if the kernel provides it. */
function refusal(program: string, { name }: Device, error: unknown): string {
	const { message, log } = error as BpfError;
	const said = log === undefined || log === "" ? message : `${message}: ${log.trim()}`;
	return `Cannot attach ${program} to ${name}: ${said}`;
}

/** Removes every kernel object that Fairway made in this namespace and under these directories. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { BpfLink } from "#native";
import type { IpRoute } from "../linux/iproute.js";
import {
	GRO_DEVICE,
	HOST_DEVICE,
	isOwnDevice,
	isPodInterface,
	ROUTE_PROTOCOL,
} from "../linux/names.js";
import type { Log } from "../text/log.js";
import { removeHostDevice } from "./host/device.js";
import { removeGroDevice } from "./host/gro_device.js";
import { ReservedPorts } from "./host/reserved_ports.js";
import { sysctls } from "./host/sysctls.js";
import { Links } from "./links.js";
import { detachFilter, hasFilter } from "./programs/hooks.js";
import { Pins } from "./programs/pins.js";

const OUR_ROUTES = ["proto", String(ROUTE_PROTOCOL)];

export interface CleanupOptions {
	pinDir: string;
	runDir: string;
	log: Log;
	/** Nothing is removed: the log says what would be. */
	isDryRun?: boolean;
}

/**
 * From the outside inwards: first no packet reaches a program, then what the programs stood on
 * goes. Sysctls stay, except the SNAT ports among the reserved ones. Throws after it has tried everything.
 */
export async function cleanup(ip: IpRoute, options: CleanupOptions): Promise<void> {
	const { pinDir, runDir, log } = options;
	if (options.isDryRun) return preview(ip, options);
	const problems: string[] = [];
	const attempt = async (what: string, act: () => unknown) => {
		try {
			await act();
		} catch (error) {
			problems.push(`${what}: ${(error as Error).message}`);
		}
	};

	await attempt("links", () => detachLinks(pinDir, log));
	const links = await Links.read();
	for (const { name, ifindex } of links.all())
		if (!isOwnDevice(name))
			await attempt(`filters of ${name}`, () => removeFilters(ip, name, ifindex, log));

	for (const name of links.names().filter(isPodInterface))
		await attempt(`interface ${name}`, async () => {
			await ip.run("link", "del", "dev", name);
			log.info({ interface: name }, "removed a Pod interface");
		});
	await attempt(HOST_DEVICE, async () => {
		if (await removeHostDevice(ip)) log.info({ interface: HOST_DEVICE }, "removed fairway0");
	});
	await attempt(GRO_DEVICE, async () => {
		if (await removeGroDevice(ip)) log.info({ interface: GRO_DEVICE }, "removed the GRO device");
	});
	for (const family of ["-4", "-6"]) await attempt("routes", () => flushRoutes(ip, family));

	await attempt("pins", () => Pins.existing(pinDir)?.removeAll());
	await attempt("reserved ports", () => {
		const { changes, problems: refused } = sysctls.releaseSnatPorts(new ReservedPorts(runDir));
		for (const { name, from, to } of changes) log.info({ sysctl: name, from, to }, "set a sysctl");
		for (const { message } of refused) throw new Error(message);
	});
	await attempt("endpoint records", () =>
		rmSync(join(runDir, "endpoints"), { recursive: true, force: true }),
	);
	if (problems.length > 0) throw new Error(`Cannot clean up: ${problems.join("; ")}`);
}

/** In the order of `cleanup`. */
async function preview(ip: IpRoute, { pinDir, runDir, log }: CleanupOptions): Promise<void> {
	const pins = Pins.existing(pinDir);
	for (const link of pins?.linkNames() ?? []) log.info({ link }, "would detach a program");
	const links = await Links.read();
	for (const { name, ifindex } of links.all()) {
		if (isOwnDevice(name)) continue;
		for (const direction of ["ingress", "egress"] as const)
			if (hasFilter(ifindex, direction))
				log.info({ interface: name, direction }, "would detach a program");
	}
	for (const name of links.names()) {
		if (isPodInterface(name)) log.info({ interface: name }, "would remove a Pod interface");
		else if (name === HOST_DEVICE || name === GRO_DEVICE)
			log.info({ interface: name }, "would remove a device");
	}
	for (const family of ["-4", "-6"]) {
		const routes = (await ip.query(family, "route", "show", "table", "all", ...OUR_ROUTES)).length;
		if (routes > 0) log.info({ routes, family: family === "-4" ? 4 : 6 }, "would remove routes");
	}
	if (pins !== undefined) log.info({ file: pinDir }, "would remove the pinned maps and programs");
	const ports = new ReservedPorts(runDir).read()?.range;
	if (ports !== undefined)
		log.info({ ports: `${ports.first}-${ports.last}` }, "would give back the SNAT ports");
}

function detachLinks(pinDir: string, log: Log): void {
	const pins = Pins.existing(pinDir);
	for (const name of pins?.linkNames() ?? []) {
		const path = pins?.link(name) ?? "";
		const link = BpfLink.openPinned(path);
		try {
			if (link.info.ifindex !== 0) link.detach();
		} finally {
			link.close();
			pins?.remove(path);
		}
		log.info({ link: name }, "detached a program");
	}
}

/** Also removes the clsact qdisc if no other filter uses it. */
async function removeFilters(ip: IpRoute, name: string, ifindex: number, log: Log): Promise<void> {
	let removed = false;
	for (const direction of ["ingress", "egress"] as const)
		if (detachFilter(ifindex, direction)) {
			removed = true;
			log.info({ interface: name, direction }, "detached a program");
		}
	if (!removed) return;
	const left = await Promise.all(
		["ingress", "egress"].map((side) => ip.command("tc", "filter", "show", "dev", name, side)),
	);
	if (left.every((text) => text.trim() === ""))
		await ip.command("tc", "qdisc", "del", "dev", name, "clsact");
}

async function flushRoutes(ip: IpRoute, family: string): Promise<void> {
	// iproute2 fails to flush a table that has never had a route.
	if ((await ip.query(family, "route", "show", "table", "all", ...OUR_ROUTES)).length > 0)
		await ip.run(family, "route", "flush", "table", "all", ...OUR_ROUTES);
}

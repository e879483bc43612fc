/**
 * Keeps Fairway's part of the kernel's routing in the desired state: fairway0, the host routes to it, and
 * the routes and neighbours of the local Pods. The kernel's state is read once, and again when the kernel
 * reports a change.
 */

import type { IpRoute } from "../../linux/iproute.js";
import { inTurns } from "../../loop/turns.js";
import { Delta } from "../../tables/delta.js";
import { diffMap } from "../../tables/diff.js";
import type { HostRoute } from "../../tables/tables.js";
import type { Log } from "../../text/log.js";
import { applyHostDevice, type HostDeviceState } from "./device.js";
import {
	hostRouteLine,
	hostRouteRemoval,
	type PodRoute,
	podRouteChange,
	podRouteRemoval,
	type RouteLine,
	type RouteState,
	readRoutes,
	writePodRoutes,
	writeRoutes,
} from "./kernel_routes.js";

export interface RouteOutcome {
	writes: number;
	problems: string[];
}

export class HostState {
	readonly #ip: IpRoute;
	readonly #log: Log;
	#routes: RouteState | undefined;
	/** The actual host routes, from `#routes`, and the desired ones. */
	#hostRoutes = new Delta<string, HostRoute>();
	#device: { wanted: string; ifindex: number } | undefined;

	constructor(ip: IpRoute, log: Log) {
		this.#ip = ip;
		this.#log = log;
	}

	/** The state may have changed: reads it again before the next write. */
	doubt(): void {
		this.#routes = undefined;
		this.#device = undefined;
	}

	/** Checks a prefix whose desired route has changed, in the same map as before. */
	check(prefix: string): void {
		this.#hostRoutes.check(prefix);
	}

	/** Returns fairway0's index. Throws if the kernel refuses a change. */
	async applyDevice(wanted: HostDeviceState): Promise<number> {
		const text = JSON.stringify(wanted);
		if (this.#device?.wanted === text) return this.#device.ifindex;
		const ifindex = await applyHostDevice(this.#ip, wanted, this.#log);
		this.#device = { wanted: text, ifindex };
		return ifindex;
	}

	/**
	 * Writes new and changed routes, then removals, in one batch. Also removes unknown routes of Fairway's
	 * protocol.
	 */
	async applyRoutes(
		hostRoutes: Map<string, HostRoute>,
		podRoutes: Map<string, PodRoute>,
	): Promise<RouteOutcome> {
		if (this.#routes === undefined) {
			this.#routes = await readRoutes();
			this.#hostRoutes = new Delta(this.#routes.hostRoutes);
		}
		const [actual, known] = [this.#routes, this.#hostRoutes];
		await inTurns(known.want(hostRoutes));
		const hosts = known.difference();
		const pods = diffMap(actual.podRoutes, podRoutes);
		const lines: RouteLine[] = [
			...hosts.put.map(([prefix, route]) => hostRouteLine(prefix, route)),
			...hosts.remove.map(hostRouteRemoval),
			...actual.others.map((line) => ({ line: `route del ${line}`, key: line })),
		];
		const podChanges = pods.put.map(([address, route]) => podRouteChange(address, route));
		for (const address of pods.remove) {
			const route = actual.podRoutes.get(address);
			if (route !== undefined) podChanges.push(podRouteRemoval(address, route));
		}
		if (lines.length === 0 && podChanges.length === 0) return { writes: 0, problems: [] };
		const refused = lines.length === 0 ? [] : await writeRoutes(this.#ip, lines);
		const refusedPods = podChanges.length === 0 ? [] : await writePodRoutes(podChanges);
		// A Pod's interface that went meanwhile took its routes along; its message makes another pass.
		const failedPods = refusedPods.filter(({ address, failure }) => {
			const gone = failure.code === "ENODEV" && podRoutes.has(address);
			if (gone) this.#log.debug({ command: failure.what }, "a Pod's interface went meanwhile");
			return !gone;
		});
		// What of a failed pair was done is best asked of the kernel.
		if (refused.length > 0 || refusedPods.length > 0) this.#routes = undefined;
		else if (this.#routes === actual) {
			for (const [prefix, route] of hosts.put) known.hold(prefix, route);
			for (const prefix of hosts.remove) known.drop(prefix);
			this.#routes = { ...actual, podRoutes: new Map(podRoutes), others: [] };
		}
		return {
			writes: lines.length + podChanges.reduce((sum, { changes }) => sum + changes.length, 0),
			problems: [
				...refused.map(({ failure }) => ({ command: failure.command, said: failure.message })),
				...failedPods.map(({ failure }) => ({ command: failure.what, said: failure.detail })),
			].map(({ command, said }) => `Cannot write route "${command}": ${said}`),
		};
	}
}

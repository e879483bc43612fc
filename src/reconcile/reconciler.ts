/**
 * Brings the kernel to what the tables say. One apply does, in this order:
 *
 *  0. sizes        maps that are to have another size are replaced, under traffic (datapath_in_force.ts)
 *  1. sysctls      forwarding is on before anything is to be forwarded
 *  2. fairway0     node_config, host routes and from_host refer to it
 *  3. tables       puts before removals, so that no packet meets a gap (src/tables/diff.ts), then
 *                  node_config with a new route epoch, so that flows take up the changes
 *  4. programs     loaded when the knobs or maps are new (the first ones from the start on, beside
 *                  everything else); new maps take over the old ones' entries
 *  5. hooks        the wire first, then fairway0, then Pods, so that the receiving side is ready before
 *                  the sending one; and fairway1 where no XDP strips tunnels before GRO
 *  6. routes       the kernel's, once from_host can take the packets that they lead to it
 *  7. sweep        objects that are no longer wanted, and those that an earlier agent left behind
 *
 * Changes of peers and Services alone run only stages 3 and 6, as long as nothing else may have changed. Only
 * differences are written. A write that the kernel refuses is a problem, stays pending and is retried; the rest
 * of the apply goes on. Changes by others are noticed by the kernel's messages, and where it sends none by a
 * periodic full look (full_look.ts).
 */

import { mkdirSync } from "node:fs";
import type { BpfMap } from "#native";
import type { TableReader } from "../forwarder/table_reader.js";
import { IpRoute } from "../linux/iproute.js";
import { type Neighbour, type NetworkEvents, NetworkMonitor } from "../linux/monitor.js";
import { isPodInterface } from "../linux/names.js";
import type { Network } from "../linux/network.js";
import { hasVethWire, readNetwork } from "../linux/network_watch.js";
import { inTurns } from "../loop/turns.js";
import type { HeldPolicyTables, PolicyChanges, RuleName } from "../policy/policy_tables.js";
import { type TableChanges, wholeChanges } from "../tables/changes.js";
import type { Peer, RuleCounter } from "../tables/generated.js";
import type { HeldPeers, HeldServices, Tables, XdpMode } from "../tables/tables.js";
import type { Log } from "../text/log.js";
import { type CleanupOptions, cleanup } from "./cleanup.js";
import { DatapathInForce } from "./datapath_in_force.js";
import { FullLook } from "./full_look.js";
import { GroDevice } from "./host/gro_device.js";
import { HostState } from "./host/state.js";
import { Links } from "./links.js";
import { AgentTables } from "./maps/agent_tables.js";
import { LiveTables } from "./maps/live_tables.js";
import type { MapMemory } from "./maps/map_sizes.js";
import type { PolicyOutcome } from "./maps/policy_writes.js";
import { Readings } from "./maps/readings.js";
import { TableState } from "./maps/table_state.js";
import { Pass } from "./pass.js";
import { Hooks } from "./programs/hooks.js";
import { knobsOf } from "./programs/object_file.js";
import { Pins } from "./programs/pins.js";
import { Wire } from "./programs/wire.js";
import { Stages } from "./stages.js";
import { concernsTablesOnly, type ServiceEntries, Wanted } from "./wanted.js";

export interface ReconcilerOptions {
	/** Where maps, links and programs are pinned; created with its parents, bpffs mounted if necessary. */
	pinDir: string;
	/** Created with its parents. */
	runDir: string;
	/** build/bpf/fairway.bpf.o */
	objectPath: string;
	/** Slots of the flow table. */
	flowsMax: number;
	/** The setting of the first apply, if known: its programs are loaded early. */
	xdp?: Tables["xdp"];
	log: Log;
	/** From one full look at the kernel to the next; default: a minute. */
	lookEveryMs?: number;
	/** Maps are sized as for a machine of so many CPUs; default: this one's possible CPUs. */
	cpus?: number;
}

export interface Applied {
	/** Number of failed writes, which are being retried. */
	pending: number;
	/** Packets flow: tables and fairway0 are written, programs on the wire and on fairway0 attached. */
	ready: boolean;
	/** Number of entries, routes and hooks that were written. */
	writes: number;
}

const RETRY_MS = { first: 500, most: 30_000 };
/**
 * The kernel sends messages in bursts, or endlessly if routes flap. Looking this long after the first one,
 * not after the last, handles both.
 */
const SETTLE_MS = 100;

export class Reconciler {
	readonly #log: Log;
	readonly #ip = new IpRoute();
	readonly #monitor: NetworkMonitor;
	readonly #hooks: Hooks;
	readonly #wire: Wire;
	readonly #gro: GroDevice;
	readonly #host: HostState;
	readonly #tables: TableState;
	readonly #live: LiveTables;
	readonly #stages: Stages;
	readonly #datapath: DatapathInForce;
	/** What the core counts and notes, and what an earlier agent left. */
	readonly readings: Readings;
	readonly #wanted: Wanted;
	/** Something else than what is wanted may have changed since the last full pass began. */
	#doubtful = true;
	#last: Applied = { pending: 0, ready: false, writes: 0 };
	#problems: string[] = [];
	#queue: Promise<unknown> = Promise.resolve();
	#backoff = RETRY_MS.first;
	#retry: NodeJS.Timeout | undefined;
	#look: NodeJS.Timeout | undefined;
	readonly #fullLook: FullLook;
	#onPoliciesChanged: () => void = () => {};
	#closed = false;

	private constructor(options: ReconcilerOptions, pins: Pins, links: Links) {
		this.#log = options.log;
		this.#datapath = new DatapathInForce({ ...options, pins });
		const map = (name: string) => this.#datapath.map(name);
		this.#tables = new TableState(new AgentTables(map), this.#datapath.current.peersEnd);
		this.#hooks = new Hooks(pins, this.#log);
		this.#hooks.adoptFilters(links.all());
		this.#wire = new Wire(this.#hooks, this.#log);
		this.#gro = new GroDevice(this.#ip, this.#log);
		this.#host = new HostState(this.#ip, this.#log);
		this.#live = new LiveTables(map);
		this.readings = new Readings({
			map,
			nodeConfig: () => this.#live.nodeConfig(),
			peers: () => this.#tables.peers,
			services: () => this.#tables.services,
		});
		this.#stages = new Stages({
			ip: this.#ip,
			log: this.#log,
			runDir: options.runDir,
			host: this.#host,
			tables: this.#tables,
			hooks: this.#hooks,
			wire: this.#wire,
			gro: this.#gro,
			datapath: () => this.#datapath.current,
			formerPods: links.names().filter(isPodInterface),
		});
		this.#wanted = new Wanted((table, key) => {
			if (table === "hostRoutes") this.#host.check(key as string);
			else if (table !== "endpoints") this.#tables.check(table, key);
		});
		this.#monitor = new NetworkMonitor(this.#ip, this.#log);
		this.#monitor.listen((events) => this.#noticed(events));
		this.#fullLook = new FullLook(() => this.#lookAtEverything(), options.lookEveryMs);
	}

	/**
	 * Adopts what an earlier agent has pinned. Nothing in the packets' path changes before the first apply,
	 * and nothing is removed before that is done.
	 */
	static async open(options: ReconcilerOptions): Promise<Reconciler> {
		mkdirSync(options.runDir, { recursive: true, mode: 0o700 });
		const pins = await Pins.open(options.pinDir);
		const ip = new IpRoute();
		const [links, vethWire] = await Promise.all([Links.read(), hasVethWire(ip)]);
		const reconciler = new Reconciler(options, pins, links);
		await reconciler.#tables.adopt();
		if (options.xdp !== undefined)
			reconciler.#datapath.current.prepare(knobsOf(vethWire, options.xdp));
		return reconciler;
	}

	/** Brings the kernel to these tables; see `change`. */
	apply(tables: Tables): Promise<Applied> {
		return this.change(wholeChanges(tables));
	}

	/**
	 * Takes these changes in and writes what differs from the kernel then. Does not reject if the kernel
	 * refuses a write: that stays pending, is retried with backoff, and is a problem meanwhile. Changes of
	 * peers and Services alone cost what they change, everything else a look at the links and hooks besides.
	 */
	change(changes: TableChanges): Promise<Applied> {
		this.#wanted.expect(changes);
		return this.#enqueue(async () => {
			await inTurns(this.#wanted.take(changes));
			return this.#applyNow(concernsTablesOnly(changes));
		});
	}

	/**
	 * Changes the size of the flow table under traffic; flows are kept, as far as they fit. A size that
	 * the kernel refuses is a problem, the table stays as it is, and it is tried again later.
	 */
	async resizeFlows(flowsMax: number): Promise<void> {
		if (!this.#datapath.wantFlows(flowsMax)) return;
		if (this.#wanted.tables !== undefined) await this.#enqueue(() => this.#applyNow());
	}

	/** Slots of the flow table that packets meet. */
	flowSlots(): number {
		return this.#datapath.flowSlots;
	}

	/** The memory that the maps in force take in the kernel. */
	mapMemory(): MapMemory {
		return this.#datapath.memory();
	}

	/** Entries that the tables of Services are to have. */
	serviceEntriesUsed(): ServiceEntries {
		return this.#wanted.serviceEntries;
	}

	/** Sentences for `fairway status`: what the kernel refused and what is being retried. */
	problems(): string[] {
		return [...this.#problems, ...this.#tables.policies.problems];
	}

	/**
	 * Why the Pod behind this host interface has no data path; undefined: by the last apply that went
	 * through its programs are attached and its table entries written.
	 */
	podProblem(hostInterface: string): string | undefined {
		return this.#stages.podProblem(hostInterface);
	}

	/** The XDP mode of from_wire_xdp; with several wire interfaces, the lowest of them. */
	xdpMode(): XdpMode {
		return this.#wire.mode();
	}

	/** What the tables of Services hold: at first what an earlier agent wrote. */
	serviceEntries(): HeldServices {
		return this.#tables.services;
	}

	/** Reads what the tables of network policy hold, in slices. For the compiler that begins beside it. */
	adoptPolicies(): Promise<HeldPolicyTables> {
		return this.#tables.policies.adopt();
	}

	/** Calls back when others have changed the tables of network policy: they are to be adopted and compiled anew. */
	watchPolicies(onChange: () => void): void {
		this.#onPoliciesChanged = onChange;
	}

	/**
	 * Writes these changes, whatever an apply waits for; see PolicyTables. The first come once an apply has
	 * written the endpoints.
	 *
	 * @param peerIds of the Nodes that the changes name
	 */
	changePolicies(
		changes?: PolicyChanges,
		peerIds?: (node: string) => number | undefined,
	): Promise<PolicyOutcome> {
		return this.#tables.policies.change(changes, peerIds);
	}

	/** What ids of rules stand for. */
	get policyRules(): ReadonlyMap<number, RuleName> {
		return this.#tables.policies.rules;
	}

	/** Of these rules, in the order of ids; those that counted nothing are left out. In slices. */
	ruleCounters(rules?: ReadonlyMap<number, RuleName>): Promise<Map<number, RuleCounter>> {
		return this.#tables.policies.counters(rules);
	}

	/**
	 * Another path for a peer, at once: whatever an apply waits for, and at the same cost for any number
	 * of peers. It is what is wanted from now on. A peer that the kernel does not have yet gets it with
	 * the apply that writes it, and a write that is refused is tried again by the next apply.
	 */
	putPath(index: number, peer: Peer): void {
		this.#wanted.putPath(index, peer);
		this.#tables.putPath(index, peer);
	}

	/** What the tables hold of these peers, by id. */
	peerEntries(ids: ReadonlySet<number>): HeldPeers {
		return this.#tables.peerEntries(ids);
	}

	readNetwork(): Promise<Network> {
		return readNetwork(this.#ip);
	}

	/** Calls back for each neighbour that the kernel could not resolve. */
	watchFailedNeighbours(onFailed: (neighbour: Neighbour) => void): { close(): void } {
		return this.#monitor.listenToFailed(onFailed);
	}

	/**
	 * Calls back shortly after links, addresses or routes other than Fairway's have changed, at most ten times
	 * a second.
	 */
	watchNetwork(onChange: () => void): { close(): void } {
		return this.#monitor.watchNetwork(onChange, SETTLE_MS);
	}

	/** The ring buffer of the slow path. */
	get slowPathMap(): BpfMap {
		return this.#datapath.map("slow_path");
	}

	/** The ring buffer of probe events. */
	get probeEventsMap(): BpfMap {
		return this.#datapath.map("probe_events");
	}

	/** The live maps and the kernel's FIB, for `explain` and the slow path. */
	get tableReader(): TableReader {
		return this.#live;
	}

	/** Stops retries and watches, and closes descriptors. Forwarding continues. */
	async close(): Promise<void> {
		this.#closed = true;
		clearTimeout(this.#retry);
		clearTimeout(this.#look);
		this.#fullLook.close();
		this.#monitor.close();
		await this.#queue;
		await this.#datapath.idle();
		this.#hooks.close();
		this.#datapath.close();
	}

	/** Removes every kernel object that Fairway made in this namespace and under these directories. */
	static cleanup(options: CleanupOptions): Promise<void> {
		return cleanup(new IpRoute(), options);
	}

	/** Runs one after another, so that an apply sees the result of the previous one. */
	#enqueue<T>(act: () => Promise<T>): Promise<T> {
		const result = this.#queue.then(act);
		this.#queue = result.catch(() => {});
		return result;
	}

	#noticed({ own, network, nextHops }: NetworkEvents): void {
		if (nextHops) {
			this.#tables.raiseNextHopEpoch();
			this.#live.forgetNextHops();
		}
		if (!own && !network) return;
		this.#host.doubt();
		this.#gro.doubt();
		this.#doubtful = true;
		if (this.#wanted.tables === undefined || this.#closed) return;
		// Someone may have removed an object of Fairway, or restored a device. An apply that finds
		// nothing to write costs a few milliseconds.
		this.#look ??= setTimeout(() => {
			this.#look = undefined;
			void this.#enqueue(() => this.#applyNow());
		}, SETTLE_MS);
	}

	/** @param ofTables nothing has changed in what is wanted but tables that need no look at anything else */
	async #applyNow(ofTables = false): Promise<Applied> {
		const { tables } = this.#wanted;
		if (tables === undefined || this.#closed) return this.#last;
		clearTimeout(this.#retry);
		const pass = new Pass(this.#log);
		// Whatever is thrown in there, the rest is tried again.
		const resized = await pass.try(true, () =>
			this.#datapath.fit((this.#wanted.highestIndex >> 1) + 1, pass, (swap) =>
				this.#stages.run(tables, swap),
			),
		);
		const short = ofTables && !this.#doubtful && !resized && this.#stages.isSettled;
		if (!short) this.#doubtful = false;
		const ready = await pass.try(false, () =>
			short ? this.#stages.runTables(tables, pass) : this.#stages.run(tables, pass),
		);
		if (ready) this.#datapath.attached();
		const { writes, problems } = pass;
		for (const problem of problems)
			if (!this.#problems.includes(problem)) this.#log.warn({ problem }, "problem detected");
		if (problems.length === 0 && this.#problems.length > 0)
			this.#log.info({}, "all pending writes applied");
		this.#problems = problems;
		this.#last = { pending: problems.length, ready, writes };
		if (writes > 0) this.#log.debug({ writes, pending: problems.length }, "applied");
		if (problems.length > 0) this.#retryLater();
		else this.#backoff = RETRY_MS.first;
		return this.#last;
	}

	/** What others may have changed without a message of the kernel's. A change waits for one table at most. */
	async #lookAtEverything(): Promise<void> {
		if (this.#wanted.tables === undefined || this.#closed) return;
		const ofPolicies = await this.#tables.policies.countDiffering();
		let differing = ofPolicies;
		for (const read of this.#tables.readings())
			differing += await this.#enqueue(async () => (this.#closed ? 0 : read()));
		if (differing > 0)
			this.#log.warn({ entries: differing }, "map entries were changed by someone else");
		if (ofPolicies > 0) this.#onPoliciesChanged();
		await this.#enqueue(() => {
			this.#host.doubt();
			this.#gro.doubt();
			this.#hooks.doubt();
			return this.#applyNow();
		});
	}

	/** Only a retry that failed makes the next one later; an apply for another reason does not. */
	#retryLater(): void {
		if (this.#closed) return;
		this.#retry = setTimeout(() => {
			this.#backoff = Math.min(this.#backoff * 2, RETRY_MS.most);
			void this.#enqueue(() => this.#applyNow());
		}, this.#backoff);
	}
}

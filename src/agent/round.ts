/**
 * One apply, from the desired state to the state in force:
 *
 *  1. compile the changes of the sources
 *  2. pass the possible paths to the prober; compile its verdicts on them at once
 *  3. have the changes written
 *  4. publish: the new state, changed peers in the log and for `fairway events`, the Pods' MTU
 *
 * A verdict of the prober does not wait for an apply: that peer's entry is written at once, and the next apply brings
 * the rest.
 */
import type { FormerPeers } from "../cluster/former_peers.js";
import type { PeerIds } from "../cluster/peer_ids.js";
import type { PathNotice, Reporter } from "../cluster/reporter.js";
import { formatProblem } from "../cluster/snapshot.js";
import type { CniServer } from "../cni/server.js";
import type { CompileInput } from "../compile/compile.js";
import { type CompiledChanges, Compiler, withMore } from "../compile/compiler.js";
import type { NotReady } from "../compile/own_node.js";
import type { ServiceViews } from "../compile/services/view.js";
import type { Config } from "../config/config.js";
import type { Network } from "../linux/network.js";
import { inTurns } from "../loop/turns.js";
import type { PathEvents } from "../observe/path_events.js";
import type { PathMemory } from "../observe/path_memory.js";
import { type PeerDifference, peerDifferences } from "../observe/peer_differences.js";
import type { Prober } from "../probe/prober.js";
import type { Applied } from "../reconcile/reconciler.js";
import { PeerViews } from "../report/peer_views.js";
import { type AgentState, changed, INITIAL_STATE, type InForce } from "../report/state.js";
import type { Log } from "../text/log.js";
import { keepHeapSmaller } from "./heap.js";
import type { Kernel } from "./kernel.js";
import type { ProblemLog } from "./problem_log.js";
import type { Sources } from "./sources.js";

export interface RoundOptions {
	nodeName: string;
	log: Log;
	/** performance.now() at the agent's start. */
	started: number;
	sources: Pick<Sources, "config" | "desired">;
	kernel: Kernel;
	cni: () => Pick<CniServer, "endpoints" | "updateMTU">;
	prober: () => Prober;
	peerIds: PeerIds;
	formerPeers: FormerPeers;
	problems: ProblemLog;
	pathEvents: PathEvents;
	pathMemory: PathMemory;
	/** Packets flow from now on: Pods may come. */
	onReady: () => void;
	/** All that was desired is in force; Services with these keys may have changed. */
	onInForce: (
		services: ServiceViews,
		changed: ReadonlySet<string>,
		config: Config,
		network: Network,
	) => void;
	/** What this Node reports to the cluster; undefined: nothing. */
	reporter?: Reporter | undefined;
}

/** Changes of peers in one apply that have a line each; writing lines takes the time of the event loop. */
const LOGGED_MOST = 200;

class NotReadyError extends Error {}

export class Round {
	readonly #options: RoundOptions;
	#state = INITIAL_STATE;
	readonly #compiler = new Compiler();
	readonly #peers = new PeerViews();
	/** Peers whose verdicts have changed since the compile began. */
	readonly #verdicts = new Set<number>();

	/** Services that have changed since the last publish. */
	readonly #changedServices = new Set<string>();
	/** The list of Nodes has been complete at least once. */
	#knewAllNodes = false;

	constructor(options: RoundOptions) {
		this.#options = options;
	}

	get state(): AgentState {
		return this.#state;
	}

	/** @throws Error when it is to be run again */
	async apply(): Promise<void> {
		const { nodeName, sources, kernel, peerIds, formerPeers, problems, log } = this.#options;
		const { config, snapshot, network, changed, changedServices } = await sources.desired();
		for (const key of changedServices) this.#changedServices.add(key);
		const { nodes } = snapshot;
		const isPeer = (name: string) => name !== nodeName && nodes.has(name);
		this.#compiler.noteNodes(changed);
		this.#compiler.noteNodes(peerIds.update(changed, isPeer));
		this.#compiler.noteServices(changedServices);
		const former = formerPeers.missing(snapshot, changed);
		const began = performance.now();
		const input: CompileInput = {
			...{ config, snapshot, network, nodeName },
			peerIds: peerIds.ids,
			endpoints: this.#options.cni().endpoints(),
			verdicts: this.#options.prober(),
			held: former.size === 0 ? undefined : kernel.peerEntries(former),
			heldServices: () => kernel.serviceEntries(),
			now: began,
		};
		let compiled: CompiledChanges | NotReady;
		let applied: Applied | undefined;
		try {
			compiled = await this.#compile(input);
			problems.update([...snapshot.problems.map(formatProblem), ...compiled.problems]);
			if (compiled.ready) {
				const compileMs = Math.round(performance.now() - began);
				applied = await kernel.change(compiled.tables);
				this.#compiler.applied();
				const applyMs = Math.round(performance.now() - began) - compileMs;
				const { writes, pending } = applied;
				log.debug({ compileMs, applyMs, writes, pending }, "applied");
			}
		} catch (error) {
			// Whatever part of the changes was taken in, the next are whole.
			this.#compiler.forget();
			throw error;
		}
		if (!compiled.ready || applied === undefined) {
			const { reason } = compiled as NotReady;
			if (this.#state.waitingFor !== reason) log.warn({ reason }, "not ready");
			this.#change({ waitingFor: reason, ready: false, failure: undefined });
			return;
		}
		this.#publish(compiled, network, config, applied.ready);
		if (snapshot.synced && !this.#knewAllNodes) {
			this.#knewAllNodes = true;
			this.#options.pathEvents.keepOnly(isPeer);
		}
		this.#options.onInForce(compiled.services, this.#changedServices, config, network);
		this.#changedServices.clear();
		this.#options.prober().start();
		// Last and not waited for: it takes a second, and a size that cannot be had is a problem of the
		// kernel's that keeps nothing else from being applied.
		void kernel.resizeFlows(config.flows.max);
	}

	/** The prober's verdicts on what is new are in it: what it knows of new peers, and of paths that a new mode allows. */
	async #compile(input: CompileInput): Promise<CompiledChanges | NotReady> {
		const prober = this.#options.prober();
		this.#verdicts.clear();
		let result = await inTurns(this.#compiler.update(input));
		if (!result.ready) return result;
		const { probed, tables } = result;
		const again = await prober.change(probed, tables.whole, input.config);
		for (const index of again) this.#compiler.noteVerdict(index);
		if (again.length > 0) {
			const more = await inTurns(this.#compiler.update(input));
			if (!more.ready) return more;
			result = withMore(result, more);
		}
		const { put } = result.tables.maps.peers;
		for (const index of this.#verdicts) {
			const entry = this.#compiler.entry(index, prober.get(index));
			if (entry !== undefined && put.has(index)) put.set(index, entry);
		}
		return result;
	}

	/** The peer's entry alone, now: a path that fails is left whatever an apply waits for. */
	onVerdict(index: number): void {
		this.#verdicts.add(index);
		this.#compiler.noteVerdict(index);
		const entry = this.#compiler.entry(index, this.#options.prober().get(index));
		if (entry !== undefined) this.#options.kernel.putPath(index, entry);
	}

	/** Reports a failed apply, which will be retried. */
	onFailure(error: unknown, retryMs: number): void {
		const { kernel, log } = this.#options;
		if (error instanceof NotReadyError) {
			// Its problems are those of the kernel, which has logged them.
			log.warn({ problems: kernel.problems(), retryMs }, "not ready, the kernel refused writes");
			return;
		}
		this.#change({ failure: error instanceof Error ? error.message : String(error) });
		log.error({ err: error, retryMs }, "apply failed, will retry");
	}

	#change(change: Partial<AgentState>): void {
		this.#state = changed(this.#state, change);
	}

	#publish(
		{ self, services, peers, tables }: CompiledChanges,
		network: Network,
		config: Config,
		packetsFlow: boolean,
	): void {
		const { kernel, pathEvents, pathMemory } = this.#options;
		const cni = this.#options.cni();
		const { inForce: before, ready } = this.#state;
		const now: InForce = { self, network, services, peers: this.#peers };
		const differences = peerDifferences(this.#peers.take(peers, tables.whole));
		this.#change({ inForce: now, waitingFor: undefined, failure: undefined });
		pathEvents.add(differences, Date.now());
		if (differences.length > 0) pathMemory.changed();
		// Beside the loop: two processes a Pod, and paths must change meanwhile.
		if (before !== undefined && before.self.podMTU !== now.self.podMTU) void cni.updateMTU();
		if (ready) {
			this.#logPeers(differences);
			this.#report(differences, config);
			return;
		}
		if (!packetsFlow) {
			this.#logPeers(differences);
			this.#change({ waitingFor: "the kernel to take what packets need to flow" });
			// Causes a retry: the reconciler retries its writes, but does not report success.
			throw new NotReadyError(`Cannot get ready: ${kernel.problems().join("; ")}`);
		}
		this.#change({ ready: true });
		keepHeapSmaller();
		this.#logReady(now, config);
		this.#options.onReady();
		this.#options.reporter?.ready(config.trafficEncapMode === "encap");
		// Last, because the first apply has as many as there are peers.
		this.#logPeers(differences);
		// For Pods that were attached before the MTU changed while no agent ran.
		void cni.updateMTU();
	}

	#report(differences: readonly PeerDifference[], { trafficEncapMode }: Config): void {
		const { reporter } = this.#options;
		if (reporter === undefined) return;
		reporter.ready(trafficEncapMode === "encap");
		const notices = differences.flatMap(({ kind, before, peer }): PathNotice[] => {
			if (kind !== "path" || before === undefined) return [];
			const { node, family, path, reason } = peer;
			return [{ peer: node, family, from: before.path, to: path, reason }];
		});
		if (notices.length > 0) reporter.pathsChanged(notices);
	}

	#logReady({ self: { podCIDRs, transport, podMTU }, peers }: InForce, config: Config): void {
		this.#options.log.info(
			{
				mode: config.trafficEncapMode,
				tunnelType: config.tunnelType,
				xdp: this.#options.kernel.xdpMode(),
				podCIDRs,
				transport,
				podMTU,
				peers: peers.size,
				startMs: Math.round(performance.now() - this.#options.started),
			},
			"ready",
		);
	}

	/** A line each, or one for all of them where they are many. */
	#logPeers(differences: readonly PeerDifference[]): void {
		const { log } = this.#options;
		if (differences.length <= LOGGED_MOST) {
			for (const { facts, message } of differences) log.info(facts, message);
			return;
		}
		const counts: Record<string, number> = {};
		for (const { kind } of differences) counts[kind] = (counts[kind] ?? 0) + 1;
		log.info(counts, "peers changed");
	}
}

/**
 * The Node agent: connects the stages of a change, and is the only code that knows all of them.
 *
 *  1. sources (configuration file, cluster, kernel network, local Pods) record that they changed;
 *     that is cheap and touches nothing
 *  2. apply, one at a time: reads the network if it changed, compiles, has the difference written
 *  3. the prober learns the possible paths; its results cause another apply
 *  4. the state in force is kept for the API and CNI, and the differences are logged
 */
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { CheckAnswer, ExplainAnswer, PeerStatus, Status } from "../api/messages.js";
import { ApiServer, RequestError } from "../api/server.js";
import { Admission } from "../cluster/admission.js";
import { FormerPeers } from "../cluster/former_peers.js";
import { ManifestDirectory } from "../cluster/manifests.js";
import { PeerIds } from "../cluster/peer_ids.js";
import { formatProblem } from "../cluster/snapshot.js";
import { type Source, Store } from "../cluster/store.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { CniRequest } from "../cni/protocol.js";
import { CniServer } from "../cni/server.js";
import {
	type CompileInput,
	type CompileResult,
	compile,
	type PeerView,
	type ProbedPeer,
	type SelfView,
} from "../compile/compile.js";
import type { Network } from "../compile/network.js";
import { changedKeys } from "../config/changes.js";
import { type Config, type ConfigResult, formatConfigError } from "../config/config.js";
import { watchConfig } from "../config/watch.js";
import { type Log, withComponent } from "../log.js";
import { Prober } from "../probe/prober.js";
import type { PathSurvey } from "../probe/survey.js";
import { IpRoute } from "../reconcile/iproute.js";
import { peerKey } from "../tables/paths.js";
import { check } from "./check.js";
import { explain } from "./explain.js";
import { type Kernel, openKernel } from "./kernel.js";
import type { Logger } from "./log.js";
import { Loop } from "./loop.js";
import { LoopLag } from "./loop_lag.js";
import { PathEvents } from "./path_events.js";
import { pathFactsOf, withReasons } from "./path_facts.js";
import { PathMemory } from "./path_memory.js";
import { peerDifferences } from "./peer_differences.js";
import { ProblemLog } from "./problem_log.js";
import { endpointStatus, type PathFactsOf, peerStatus, statusOf } from "./views.js";

export interface AgentOptions {
	nodeName: string;
	configFile: string;
	/** The file's present content. */
	config: Config;
	/** Directory of manifests. */
	manifests: string;
	runDir: string;
	pinDir: string;
	log: Logger;
	/** Default: the kernel of this machine. */
	openKernel?: typeof openKernel;
	/** Surveys these Nodes, or all of them, over every path. Default: with probes. */
	survey?: (nodes?: readonly string[], signal?: AbortSignal) => Promise<PathSurvey[]>;
}

/** The result of the last successful apply. */
export interface InForce {
	self: SelfView;
	peers: readonly PeerView[];
	/** The peers and paths to probe. */
	probed: readonly ProbedPeer[];
	/** A peer's entry for a verdict that comes later. */
	paths: Extract<CompileResult, { ready: true }>["paths"];
	network: Network;
}

class NotReadyError extends Error {}

export class Agent {
	readonly #options: AgentOptions;
	readonly #log: Log;
	readonly #kernel: Kernel;
	readonly #api: ApiServer;
	readonly #cni: CniServer;
	readonly #peerIds: PeerIds;
	readonly #prober: Prober;
	readonly #loop: Loop;
	readonly #loopLag: LoopLag;
	/** Of the cluster's objects and the network. */
	readonly #problems: ProblemLog;
	readonly #pathEvents: PathEvents;
	readonly #pathMemory: PathMemory;
	readonly #started = performance.now();
	#watches: { close(): void | Promise<void> }[] = [];

	/** Desired: the latest values of the sources. */
	#config: Config;
	readonly #admission: Admission;
	readonly #formerPeers: FormerPeers;
	#networkChanged = true;

	/** Actual. */
	#network: Network | undefined;
	#inForce: InForce | undefined;
	/** Why this Node cannot be compiled; undefined: the last compile succeeded. */
	#waitingFor: string | undefined = "the first look at the cluster and the network";
	#ready = false;
	#refusedConfig: readonly string[] = [];
	#failure: string | undefined;

	static async start(options: AgentOptions): Promise<Agent> {
		const { runDir, pinDir, config, log } = options;
		// The run directory is locked before anything else is touched. Early requests are told that the
		// agent is starting.
		let agent: Agent | undefined;
		const started = () => {
			if (agent === undefined) {
				throw new RequestError(503, "Cannot answer: the agent is starting");
			}
			return agent;
		};
		const api = await ApiServer.open(
			runDir,
			{
				"GET /status": async () => ({ status: 200, body: await started().status() }),
				"GET /peers": async () => ({ status: 200, body: await started().peers() }),
				"GET /endpoints": () => ({ status: 200, body: started().endpoints() }),
				"GET /events": () => ({ status: 200, body: started().#pathEvents.list() }),
				"GET /check": () => ({ status: 200, body: started().#prober.surveyProgress() }),
				"POST /check": async (body, signal) => ({
					status: 200,
					body: await started().check(body, signal),
				}),
				"POST /explain": (body) => ({ status: 200, body: started().explain(body) }),
				"POST /cni": async (body) => ({
					status: 200,
					body: await started().#cni.handle(body as CniRequest),
				}),
			},
			{
				onError: (error, request) =>
					withComponent(log, "api").error({ err: error, request }, "API request failed"),
			},
		);
		// The kernel first: its verifier runs while the manifests are read and compiled.
		let kernel: Kernel | undefined;
		let source: ManifestDirectory | undefined;
		try {
			const open = options.openKernel ?? openKernel;
			kernel = await open({ runDir, pinDir, flowsMax: config.flows.max, xdp: config.xdp, log });
			const store = new Store();
			source = await ManifestDirectory.open(options.manifests, store, {
				ignore: [options.configFile],
			});
			agent = new Agent(options, api, kernel, store, source);
		} catch (error) {
			await source?.close();
			await kernel?.close();
			await api.close();
			throw error;
		}
		agent.#loop.request();
		agent.#cni.workOffDeletions();
		return agent;
	}

	private constructor(
		options: AgentOptions,
		api: ApiServer,
		kernel: Kernel,
		store: Store,
		source: Source,
	) {
		this.#options = options;
		this.#log = withComponent(options.log, "agent");
		this.#problems = new ProblemLog(this.#log);
		this.#api = api;
		this.#kernel = kernel;
		this.#config = options.config;
		const adopted = kernel.adoptedPeers();
		this.#peerIds = new PeerIds(adopted);
		this.#formerPeers = new FormerPeers(options.nodeName, adopted);
		this.#admission = new Admission(store, (name) => this.#formerPeers.had(name));
		const file = join(options.runDir, "paths.json");
		const remembered = PathMemory.read(file);
		this.#pathEvents = new PathEvents(Date.now(), remembered);
		this.#pathMemory = new PathMemory(
			file,
			() => ({ ...this.#pathEvents.records(), holds: this.#prober.holds() }),
			(error) => this.#log.warn({ err: error, file }, "cannot write paths.json"),
		);
		this.#prober = new Prober(options.config.probes, {
			send: (packet) => kernel.sendProbe(packet),
			totals: (index) => kernel.peerTotals(index),
			adopted: kernel.adoptedPaths(),
			holds: remembered.holds,
			onVerdict: (index) => this.#onVerdict(index),
			onChange: () => this.#loop.request(),
		});
		kernel.onProbeEvent((record) => this.#prober.take(record));
		this.#loopLag = new LoopLag({ log: this.#log });
		this.#loop = new Loop({
			apply: () => this.#apply(),
			onError: (error, retryMs) => this.#onFailure(error, retryMs),
		});
		this.#cni = new CniServer({
			runDir: options.runDir,
			ip: new IpRoute(),
			log: withComponent(options.log, "cni"),
			self: () => (this.#ready ? this.#inForce?.self : undefined),
			onEndpointsChanged: (_, added) => this.#onEndpoints(added),
		});
		store.listen(() => this.#loop.request());
		this.#watches = [
			source,
			kernel.watchNetwork(() => {
				this.#networkChanged = true;
				this.#loop.request();
			}),
			watchConfig(options.configFile, (result) => this.#onConfig(result), {
				current: options.config,
			}),
		];
	}

	/** Stops the agent; the kernel objects stay and continue to forward. */
	async stop(): Promise<void> {
		await this.#api.close();
		await Promise.all(this.#watches.map((watch) => watch.close()));
		this.#prober.close();
		this.#loopLag.close();
		this.#pathMemory.write();
		await this.#loop.stop();
		await this.#kernel.close();
	}

	/** Applies everything again, for a caller that does not know what is wrong. */
	resync(): void {
		this.#networkChanged = true;
		this.#loop.request();
	}

	// ------------------------------------------------------------ 1. sources

	#onConfig(result: ConfigResult): void {
		if ("errors" in result) {
			this.#refusedConfig = result.errors.map(formatConfigError);
			this.#log.error(
				{ errors: this.#refusedConfig },
				"invalid configuration ignored, previous one stays in force",
			);
			return;
		}
		this.#refusedConfig = [];
		const changes = changedKeys(this.#config, result.config);
		this.#config = result.config;
		this.#options.log.level = result.config.log.level;
		this.#log.info({ changes }, "configuration reloaded");
		this.#loop.request();
	}

	/** The peer's entry alone, now: a path that fails is left whatever an apply waits for. */
	#onVerdict(index: number): void {
		const entry = this.#inForce?.paths.entry(index, this.#prober.get(index));
		if (entry !== undefined) this.#kernel.putPath(index, entry);
	}

	/** Resolves when the endpoints are as the CNI server has them, and this one's data path is attached. */
	async #onEndpoints(added: Endpoint | undefined): Promise<void> {
		await this.#loop.flush();
		const problem = added && this.#kernel.podProblem(added.hostInterface);
		if (problem !== undefined) {
			throw new Error(problem);
		}
	}

	// ------------------------------------------------------------ 2. apply

	async #apply(): Promise<void> {
		const { nodeName } = this.#options;
		const config = this.#config;
		const network = await this.#readNetwork();
		const snapshot = this.#admission.update();
		const former = this.#formerPeers.missing(snapshot);
		const began = performance.now();
		const input: CompileInput = {
			config,
			snapshot,
			network,
			nodeName,
			peerIds: this.#peerIds.assign([...snapshot.nodes.keys()].filter((name) => name !== nodeName)),
			endpoints: this.#cni.endpoints(),
			verdicts: this.#prober,
			held: former.size === 0 ? undefined : this.#kernel.peerEntries(former),
		};
		let result = compile(input);
		// Knowledge about new peers, and about paths that a new mode allows, takes effect immediately.
		if (result.ready && this.#prober.configure(result.probed, config)) result = compile(input);
		this.#problems.update([...snapshot.problems.map(formatProblem), ...result.problems]);
		if (!result.ready) {
			this.#wait(result.reason);
			this.#failure = undefined;
			return;
		}
		const compiled = performance.now();
		const { ready, writes, pending } = await this.#kernel.apply(result.tables);
		const compileMs = Math.round(compiled - began);
		const applyMs = Math.round(performance.now() - compiled);
		this.#log.debug({ compileMs, applyMs, writes, pending }, "applied");
		const { self, peers, probed, paths } = result;
		await this.#publish({ self, peers, probed, paths, network }, ready);
		this.#prober.start();
		// Last and not waited for: it takes a second, and a size that cannot be had is a problem of the
		// kernel's that keeps nothing else from being applied.
		void this.#kernel.resizeFlows(config.flows.max);
	}

	#onFailure(error: unknown, retryMs: number): void {
		if (error instanceof NotReadyError) {
			// Its problems are those of the kernel, which has logged them.
			this.#log.warn(
				{ problems: this.#kernel.problems(), retryMs },
				"not ready, the kernel refused writes",
			);
			return;
		}
		this.#failure = error instanceof Error ? error.message : String(error);
		this.#log.error({ err: error, retryMs }, "apply failed, will retry");
	}

	async #readNetwork(): Promise<Network> {
		if (this.#network === undefined || this.#networkChanged) {
			// Reset first, so that a change during reading causes another read.
			this.#networkChanged = false;
			try {
				const before = this.#network;
				const now = await this.#kernel.readNetwork();
				// Keep the same object while its content is the same, so that compiled results stay valid.
				this.#network = isDeepStrictEqual(now, before) && before !== undefined ? before : now;
			} catch (error) {
				this.#networkChanged = true;
				throw error;
			}
		}
		return this.#network;
	}

	#wait(reason: string): void {
		if (this.#waitingFor !== reason) {
			this.#log.warn({ reason }, "not ready");
		}
		this.#waitingFor = reason;
		this.#ready = false;
	}

	// ------------------------------------------------------------ 4. in force

	async #publish(now: InForce, packetsFlow: boolean): Promise<void> {
		const before = this.#inForce;
		this.#inForce = now;
		this.#waitingFor = undefined;
		this.#failure = undefined;
		const differences = peerDifferences(before?.peers ?? [], now.peers);
		this.#pathEvents.add(differences, Date.now());
		if (differences.length > 0) this.#pathMemory.changed();
		// Last, because the first apply has as many as there are peers.
		const logPeers = () => {
			for (const difference of differences) {
				this.#log.info(difference.facts, difference.message);
			}
		};
		if (before !== undefined && before.self.podMTU !== now.self.podMTU) {
			// Beside the loop: two processes a Pod, and paths must change meanwhile.
			void this.#cni.updateMTU();
		}
		if (this.#ready) {
			logPeers();
			return;
		}
		if (!packetsFlow) {
			logPeers();
			this.#waitingFor = "the kernel to take what packets need to flow";
			// Causes a retry: the reconciler retries its writes, but does not report success.
			throw new NotReadyError(`Cannot get ready: ${this.#kernel.problems().join("; ")}`);
		}
		this.#ready = true;
		const { podCIDRs, transport, podMTU } = now.self;
		this.#log.info(
			{
				mode: this.#config.trafficEncapMode,
				tunnelType: this.#config.tunnelType,
				xdp: this.#kernel.xdpMode(),
				podCIDRs,
				transport,
				podMTU,
				peers: now.peers.length,
				startMs: Math.round(performance.now() - this.#started),
			},
			"ready",
		);
		logPeers();
		// For Pods that were attached before the MTU changed while no agent ran.
		void this.#cni.updateMTU();
	}

	// ------------------------------------------------------------ the API's answers

	async status(): Promise<Status> {
		const used = await this.#kernel.flowsUsed();
		return statusOf({
			nodeName: this.#options.nodeName,
			ready: this.#ready,
			waitingFor: this.#waitingFor,
			config: this.#config,
			inForce: this.#inForce,
			flows: { used, max: this.#kernel.flowSlots() },
			pathFacts: this.#pathFacts(),
			kernel: this.#kernel,
			endpoints: this.#cni.endpoints().length,
			uptimeSeconds: (performance.now() - this.#started) / 1000,
			eventLoop: this.#loopLag.read(),
			problems: [
				...this.#refusedConfig.map(
					(error) =>
						`the changed configuration is invalid, the previous one stays in force: ${error}`,
				),
				...this.#problems.current,
				...(this.#failure === undefined ? [] : [this.#failure]),
				...this.#kernel.problems(),
				...this.#cni.problems(),
			],
		});
	}

	async peers(): Promise<PeerStatus[]> {
		const counters = await this.#kernel.peerCounters();
		return peerStatus(
			withReasons(this.#inForce?.peers ?? [], this.#prober),
			counters,
			this.#pathFacts(),
			Date.now(),
		);
	}

	#pathFacts(): PathFactsOf {
		return pathFactsOf(this.#inForce?.peers ?? [], this.#prober, this.#pathEvents);
	}

	async check(request: unknown, signal?: AbortSignal): Promise<CheckAnswer> {
		const { nodeName, survey = (nodes, signal) => this.#prober.survey(nodes, signal) } =
			this.#options;
		if (this.#inForce === undefined) {
			throw new RequestError(
				503,
				`Cannot check: this Node is not set up yet, waiting for ${this.#waitingFor}`,
			);
		}
		const { peers, probed } = this.#inForce;
		const candidates = new Set(probed.filter(({ candidate }) => candidate).map(peerKey));
		return check(request, {
			node: nodeName,
			mode: this.#config.trafficEncapMode,
			peers: [...new Set(peers.map(({ node }) => node))],
			hybridDirect: this.#config.hybrid.direct,
			candidate: (survey) => candidates.has(peerKey(survey)),
			survey: (nodes) => survey(nodes, signal),
		});
	}

	endpoints() {
		return this.#cni.endpoints().map(endpointStatus);
	}

	explain(request: unknown): ExplainAnswer {
		if (this.#inForce === undefined) {
			throw new RequestError(
				503,
				`Cannot explain: this Node is not set up yet, waiting for ${this.#waitingFor}`,
			);
		}
		const { self, peers, network } = this.#inForce;
		return explain(request, {
			tables: this.#kernel.tableReader,
			self,
			peers: withReasons(peers, this.#prober),
			endpoints: this.#cni.endpoints(),
			interfaces: network.interfaces,
		});
	}
}

/**
 * The Node agent: creates the parts that take part in a change, starts and stops them. It is the only code that
 * knows all of it.
 *
 *  sources.ts  the desired state, and which parts of it may have changed
 *  loop.ts     one apply at a time, soon after something has changed
 *  policies.ts network policy, in a loop of its own
 *  round.ts    one apply: compile, write the difference, publish
 *  state.ts    the state in force, as an immutable value
 *  answers.ts  the API's answers about it
 *  api.ts      the requests that the API serves
 */
import { join } from "node:path";
import { agentSocket } from "../api/client.js";
import { type ApiServer, RequestError } from "../api/server.js";
import { Admission } from "../cluster/admission.js";
import { EndpointController } from "../cluster/endpoint_controller.js";
import { FormerPeers } from "../cluster/former_peers.js";
import { ManifestDirectory } from "../cluster/manifests.js";
import { PeerIds } from "../cluster/peer_ids.js";
import { type Source, type SourceFacts, Store } from "../cluster/store.js";
import { CNI_CONF_DIR } from "../cni/conf_dir.js";
import { Conflist } from "../cni/conflist.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { CniRequest, CniResponse } from "../cni/protocol.js";
import { CniServer } from "../cni/server.js";
import type { Config } from "../config/config.js";
import type { ReadAccess } from "../kube/access.js";
import { KubernetesSource } from "../kube/kubernetes_source.js";
import { IpRoute } from "../linux/iproute.js";
import { LoopLag } from "../observe/loop_lag.js";
import { PathEvents } from "../observe/path_events.js";
import { PathMemory } from "../observe/path_memory.js";
import { PolicyCounts } from "../observe/policy_counts.js";
import { PolicyMemory } from "../observe/policy_memory.js";
import { ServiceCounter } from "../observe/service_counts.js";
import { ServiceLatency } from "../observe/service_latency.js";
import { Prober } from "../probe/prober.js";
import type { PathSurvey } from "../probe/survey/survey.js";
import { findLeftovers } from "../report/leftovers.js";
import { problemNotices } from "../report/problem_objects.js";
import { withComponent } from "../text/log.js";
import { version } from "../text/version.js";
import { Answers } from "./answers.js";
import { openApi } from "./api.js";
import { clusterNames } from "./cluster_names.js";
import { DenialWatch } from "./denial_watch.js";
import { answersForServices } from "./health_checks.js";
import { type Kernel, openKernel } from "./kernel.js";
import type { Logger } from "./log.js";
import { Loop } from "./loop.js";
import { Policies } from "./policies.js";
import { ProblemLog } from "./problem_log.js";
import { Round } from "./round.js";
import type { ServiceState } from "./service_manager.js";
import { Sources } from "./sources.js";
import { Web } from "./web.js";

export interface AgentOptions {
	nodeName: string;
	configFile: string;
	/** The file's present content. */
	config: Config;
	/** What the cluster is read from: a directory of manifests, or the Kubernetes API. */
	cluster: { manifests: string } | { kubernetes: ReadAccess };
	runDir: string;
	pinDir: string;
	/** The container runtime's network configurations; "": Fairway's is not written. */
	cniConfDir: string;
	log: Logger;
	/** Default: the kernel of this machine. */
	openKernel?: typeof openKernel;
	/** Until ADD of a Pod that nothing is known of gives up; default: 10,000. */
	unknownPodMs?: number;
	/** Packets flow from now on. */
	onReady?: () => void;
	/** Surveys these Nodes, or all of them, over every path. Default: with probes. */
	survey?: (nodes?: readonly string[], signal?: AbortSignal) => Promise<PathSurvey[]>;
}

export class Agent {
	readonly answers: Answers;
	/** Network policy: the policies in force, and the Pods that they apply to. */
	readonly policies: Policies;
	readonly #kernel: Kernel;
	readonly #denialWatch: DenialWatch;
	readonly #api: ApiServer;
	readonly #cni: CniServer;
	readonly #conflist: Conflist | undefined;
	readonly #prober: Prober;
	readonly #sources: Sources;
	readonly #round: Round;
	readonly #loop: Loop;
	readonly #loopLag: LoopLag;
	readonly #pathEvents: PathEvents;
	readonly #pathMemory: PathMemory;
	readonly #policyMemory: PolicyMemory;
	readonly #policyCounts = new PolicyCounts();
	readonly #web: Web;
	/** Only where there is no Kubernetes that makes the endpoints of Services. */
	readonly #endpoints: EndpointController | undefined;

	static async start(options: AgentOptions): Promise<Agent> {
		const { runDir, pinDir, config, log } = options;
		// The run directory is locked before anything else is touched. Early requests are told that the
		// agent is starting.
		let agent: Agent | undefined;
		const api = await openApi(runDir, withComponent(log, "api"), () => {
			if (agent === undefined) throw new RequestError(503, "Cannot answer: the agent is starting");
			return {
				answers: agent.answers,
				events: () => agent!.#pathEvents.list(),
				surveyProgress: () => agent!.#prober.surveyProgress(),
				handleCni: (request) => agent!.#handleCni(request),
			};
		});
		// The kernel first: its verifier runs while the manifests are read and compiled.
		let kernel: Kernel | undefined;
		let source: Source | undefined;
		try {
			const open = options.openKernel ?? openKernel;
			kernel = await open({ runDir, pinDir, flowsMax: config.flows.max, xdp: config.xdp, log });
			const store = new Store();
			source = await openSource(options, store);
			agent = new Agent(options, api, kernel, store, source);
		} catch (error) {
			await source?.close();
			await kernel?.close();
			await api.close();
			throw error;
		}
		await agent.#web.configure(config);
		await agent.#beginCounts();
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
		const { nodeName, runDir, configFile, config } = options;
		const started = performance.now();
		const log = withComponent(options.log, "agent");
		// Problems of the cluster's objects and of the network.
		const problems = new ProblemLog(log, () => tellProblems());
		const tellProblems = () =>
			source.reporter?.objectsRefused(
				problemNotices([...problems.current, ...this.policies.problems()], store),
				[...store.keys("Node")],
			);
		this.#api = api;
		this.#kernel = kernel;
		this.#loopLag = new LoopLag({ log });
		// First: it is notified of each change, and later parts may cause some.
		this.#web = new Web({
			readiness: () => this.#round.state,
			sample: () => this.answers.sample(),
			proxy: {
				isNodeEligible: () => {
					const node = store.get("Node", nodeName);
					return node !== undefined && node.isLeaving !== true;
				},
				families: () => {
					const cidrs = this.#round.state.inForce?.self.podCIDRs ?? [];
					return ([4, 6] as const).filter((f) =>
						cidrs.some((one) => one.includes(":") === (f === 6)),
					);
				},
			},
			log: withComponent(options.log, "http"),
		});
		this.#loop = new Loop({
			apply: () => {
				latency.began();
				return this.#round.apply();
			},
			onError: (error, retryMs) => {
				this.#web.queued();
				this.#round.onFailure(error, retryMs);
			},
		});
		const latency = new ServiceLatency(Date.now(), (seconds) =>
			this.#web.serviceLatency.observe("", seconds),
		);
		const serviceCounter = new ServiceCounter();
		const policyCounts = this.#policyCounts;
		const policiesFile = join(runDir, "policies.json");
		const formerPolicies = PolicyMemory.read(policiesFile);
		this.#policyMemory = new PolicyMemory(
			policiesFile,
			() => this.answers.policyNames(),
			(error) => log.warn({ err: error, file: policiesFile }, "cannot write policies.json"),
		);
		let counted: Config | undefined;
		const adopted = kernel.adoptedPeers();
		const formerPeers = new FormerPeers(nodeName, adopted);
		this.#sources = new Sources({
			...{ configFile, config, store, source, kernel, log },
			admission: new Admission(store, (name) => formerPeers.had(name)),
			onConfig: (config) => {
				options.log.level = config.log.level;
				void this.#web.configure(config);
			},
			onChange: () => {
				this.#web.queued();
				latency.heard(Date.now());
				this.#loop.request();
			},
		});
		const file = join(runDir, "paths.json");
		const remembered = PathMemory.read(file);
		this.#pathEvents = new PathEvents(Date.now(), remembered);
		this.#pathMemory = new PathMemory(
			file,
			() => ({ ...this.#pathEvents.records(), holds: this.#prober.holds() }),
			(error) => log.warn({ err: error, file }, "cannot write paths.json"),
		);
		const peerIds = new PeerIds(adopted);
		this.#round = new Round({
			...{ nodeName, log, started, kernel, problems, formerPeers },
			sources: this.#sources,
			cni: () => this.#cni,
			prober: () => this.#prober,
			peerIds,
			pathEvents: this.#pathEvents,
			pathMemory: this.#pathMemory,
			onReady: () => {
				this.#conflist?.install();
				this.policies.request();
				options.onReady?.();
			},
			onInForce: (services, changed, config, network) => {
				this.#web.inForce(services, changed, config, network);
				latency.inForce(changed, (key) => this.#sources.slicesOf(key), Date.now());
				serviceCounter.note(services, changed, config !== counted);
				counted = config;
			},
			reporter: source.reporter,
		});
		this.#prober = new Prober(config.probes, {
			send: (packet) => kernel.sendProbe(packet),
			totals: (index) => kernel.peerTotals(index),
			adopted: kernel.adoptedPaths(),
			holds: remembered.holds,
			onVerdict: (index) => this.#round.onVerdict(index),
			onChange: () => this.#loop.request(),
		});
		kernel.onProbeEvent((record) => this.#prober.take(record));
		this.#cni = new CniServer({
			runDir,
			ip: new IpRoute(),
			log: withComponent(options.log, "cni"),
			self: () => {
				const { ready, inForce } = this.#round.state;
				return ready ? inForce?.self : undefined;
			},
			onEndpointsChanged: (endpoints, added) => {
				this.#endpoints?.setLocalPods(endpoints);
				return this.#onEndpoints(added);
			},
			onUnlimited: ({ namespace, name, uid }) => {
				if (namespace !== undefined && name !== undefined)
					source.reporter?.bandwidthUnlimited({ namespace, name, uid });
			},
		});
		this.policies = new Policies({
			...{ nodeName, store, kernel, pods: source.pods },
			unknownPods: "manifests" in options.cluster ? "unlabelled" : "closed",
			endpoints: () => this.#cni.endpoints(),
			peerIds: () => peerIds.ids,
			isReady: () => this.#round.state.ready,
			onRulesGo: async () =>
				policyCounts.take(await this.policies.counters(), this.policies.rules()),
			formerRules: formerPolicies.rules,
			onBegin: () => this.#policyMemory.forget(),
			onPublished: () => this.#policyMemory.changed(),
			onProblems: tellProblems,
			onInForce: (seconds) => this.#web.policyLatency.observe("", seconds),
			log: withComponent(options.log, "policy"),
			...(options.unknownPodMs === undefined ? {} : { unknownMs: options.unknownPodMs }),
		});
		this.#denialWatch = new DenialWatch({
			...{ kernel, rule: (id) => this.policies.rule(id) },
			cluster: () => ({ store, endpoints: this.#cni.endpoints(), nodeName }),
			log: withComponent(options.log, "policy"),
		});
		if ("manifests" in options.cluster) {
			this.#endpoints = new EndpointController(store, nodeName);
			this.#endpoints.setLocalPods(this.#cni.endpoints());
		}
		const { cniConfDir } = options;
		if (cniConfDir !== "") {
			const socket = agentSocket(runDir);
			this.#conflist = new Conflist({
				dir: cniConfDir,
				socket,
				log: withComponent(options.log, "cni"),
			});
		}
		this.answers = new Answers({
			...{ nodeName, started, kernel },
			state: () => this.#round.state,
			config: () => this.#sources.config,
			sources: () => this.#sources.clusterFacts(),
			problems: () => [
				...this.#sources.refusedConfig.map(
					(error) =>
						`the changed configuration is invalid, the previous one stays in force: ${error}`,
				),
				...problems.current,
				...this.policies.problems(),
				...(this.#conflist?.problems() ?? []),
				...this.#web.problems(),
			],
			cni: this.#cni,
			prober: this.#prober,
			pathEvents: this.#pathEvents,
			loopLag: this.#loopLag,
			serviceCounter,
			leftovers: () =>
				findLeftovers(
					new IpRoute(),
					cniConfDir === "" ? CNI_CONF_DIR : cniConfDir,
					answersForServices(this.#sources.config),
				),
			names: clusterNames(store, () => this.#cni.endpoints()),
			store,
			policies: this.policies,
			...{ policyCounts, formerPolicies },
			denials: () => this.#denialWatch.list(),
			survey: options.survey ?? ((nodes, signal) => this.#prober.survey(nodes, signal)),
		});
	}

	/** Counts begin with this agent: excludes the counts of an earlier one. */
	async #beginCounts(): Promise<void> {
		if (this.policies.rules().size > 0)
			this.#policyCounts.begin(await this.policies.counters(), this.policies.rules());
	}

	async #handleCni(request: CniRequest): Promise<CniResponse> {
		const answer = this.#cni.handle(request);
		return this.#web.cniDurations.measure(request?.command, answer, ({ status }) => status !== 0);
	}

	/** For each kind: whether the known objects are complete and current. */
	clusterFacts(): SourceFacts[] {
		return this.#sources.clusterFacts();
	}

	/** Stops the agent; the kernel objects stay and continue to forward. */
	async stop(): Promise<void> {
		this.#web.close();
		this.#denialWatch.close();
		// Before the API, where ADDs may wait for policies.
		await this.policies.stop();
		await this.#api.close();
		await this.#sources.close();
		await this.#conflist?.close();
		this.#prober.close();
		this.#loopLag.close();
		this.#pathMemory.write();
		await this.#policyMemory.close();
		await this.#loop.stop();
		await this.#kernel.close();
	}

	/**
	 * Reads configuration and manifests again; resolves when their contents are in force.
	 *
	 * @throws Error when it cannot be applied now; it is tried again
	 */
	async reload(): Promise<void> {
		await this.#sources.reload();
		await this.#loop.flush();
	}

	/** In one line, for a service manager. */
	serviceState(): ServiceState {
		const { ready, waitingFor, inForce, failure } = this.#round.state;
		const refused = this.#sources.refusedConfig.length > 0 ? ["configuration refused"] : [];
		const waits = waitingFor === undefined ? [] : [`waiting for ${waitingFor}`];
		const { trafficEncapMode } = this.#sources.config;
		const counts = `${inForce?.peers.nodes ?? 0} peers, ${this.#cni.endpoints().length} Pods`;
		const what = ready ? [`forwarding in mode ${trafficEncapMode}: ${counts}`] : [];
		const failed = failure === undefined ? [] : [failure];
		return { ready, words: [...what, ...waits, ...failed, ...refused].join("; ") };
	}

	/** Applies everything again, for a caller that does not know what is wrong. */
	resync(): void {
		this.#sources.resync();
	}

	/**
	 * Resolves when the endpoints match those of the CNI server, the added endpoint's data path is attached and its
	 * policies are in force. A removed address no longer has an owner.
	 */
	async #onEndpoints(added: Endpoint | undefined): Promise<void> {
		const policies = added === undefined ? this.policies.flush() : this.policies.ready(added);
		const outcomes = await Promise.allSettled([this.#loop.flush(), policies]);
		for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
		const problem = added && this.#kernel.podProblem(added.hostInterface);
		if (problem !== undefined) {
			throw new Error(problem);
		}
	}
}

async function openSource(options: AgentOptions, store: Store): Promise<Source> {
	const { cluster, nodeName, runDir, configFile } = options;
	if ("manifests" in cluster)
		return ManifestDirectory.open(cluster.manifests, store, { ignore: [configFile] });
	const log = withComponent(options.log, "kubernetes");
	return KubernetesSource.open({
		access: cluster.kubernetes,
		...{ store, nodeName, runDir },
		userAgent: `fairway/${version()}`,
		onError: (error, file) => log.warn({ err: error, file }, "cannot write the last good set"),
	});
}

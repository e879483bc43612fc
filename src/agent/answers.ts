/** The API's answers: from the agent's state, and from the present state of the kernel and the prober. */
import type { CheckAnswer, Leftovers } from "../api/messages/check.js";
import type { EndpointStatus } from "../api/messages/endpoints.js";
import type { ExplainAnswer } from "../api/messages/explain.js";
import type { PeerStatus } from "../api/messages/peers.js";
import type {
	DenialStatus,
	PoliciesSummary,
	PolicyDiffAnswer,
	PolicyStatus,
} from "../api/messages/policies.js";
import type { ServiceStatus } from "../api/messages/services.js";
import type { Status } from "../api/messages/status.js";
import { RequestError } from "../api/server.js";
import type { SourceFacts, Store } from "../cluster/store.js";
import type { CniServer } from "../cni/server.js";
import type { Config } from "../config/config.js";
import { peerIndex } from "../forwarder/route.js";
import type { Sample } from "../http/metrics.js";
import { inTurns, Turns } from "../loop/turns.js";
import type { Denial } from "../observe/denials.js";
import type { LoopLag } from "../observe/loop_lag.js";
import type { PathEvents } from "../observe/path_events.js";
import type { PolicyCounts } from "../observe/policy_counts.js";
import type { PolicyNames } from "../observe/policy_memory.js";
import type { ServiceCounter } from "../observe/service_counts.js";
import { atomWords } from "../policy/words.js";
import type { Prober } from "../probe/prober.js";
import type { PathSurvey } from "../probe/survey/survey.js";
import { check } from "../report/check.js";
import { denialRows } from "../report/denials.js";
import { explain } from "../report/explain.js";
import type { Names } from "../report/explain_question.js";
import { formerServices } from "../report/former_services.js";
import { withFacts, withReason } from "../report/path_facts.js";
import { formerRows, policiesSummary, policyRows, readPolicy } from "../report/policies.js";
import { type ClusterSource, clusterAt } from "../report/policy_cluster.js";
import { policyDiff } from "../report/policy_diff.js";
import {
	findServicePort,
	type PlaceContext,
	podNode,
	readService,
	serviceRows,
} from "../report/services.js";
import type { AgentState, InForce } from "../report/state.js";
import { endpointStatus, peerStatus, statusOf } from "../report/views.js";
import { peerKey } from "../tables/paths.js";
import type { Kernel } from "./kernel.js";
import type { Policies } from "./policies.js";

type PoliciesView = Pick<
	Policies,
	| "atomsOf"
	| "counters"
	| "isSynced"
	| "knowsAllPods"
	| "local"
	| "problems"
	| "revision"
	| "rule"
	| "rules"
	| "usage"
>;

export interface AnswersOptions {
	nodeName: string;
	/** performance.now() at the agent's start. */
	started: number;
	state: () => AgentState;
	config: () => Config;
	/** State of the cluster's sources, by kind. */
	sources: () => SourceFacts[];
	/** Problems other than those of the kernel and the CNI. */
	problems: () => readonly string[];
	kernel: Kernel;
	cni: CniServer;
	prober: Prober;
	pathEvents: PathEvents;
	loopLag: LoopLag;
	serviceCounter: ServiceCounter;
	/** What other CNIs and kube-proxy have left on this Node. */
	leftovers: () => Promise<Leftovers[]>;
	names: Names;
	store: Pick<Store, "get" | "keys" | "isSynced">;
	policies: PoliciesView;
	policyCounts: PolicyCounts;
	/** What an earlier agent left in force. */
	formerPolicies: PolicyNames;
	denials: () => Promise<Denial[]>;
	/** Surveys these Nodes, or all of them, over every path. */
	survey: (nodes?: readonly string[], signal?: AbortSignal) => Promise<PathSurvey[]>;
}

const NO_ENTRIES = {
	...{ identities: 0, blocks: 0, policies: 0, policyVerdicts: 0, portSets: 0, rules: 0 },
};

const NOT_ALL_READ =
	"Not all Services and EndpointSlices have been read: endpoints that an earlier agent left may be in use besides.";

export class Answers {
	readonly #options: AnswersOptions;
	/** Takes memory in proportion to the cluster: one at a time. */
	#isComparing = false;
	#summary: { revision: number; summary: ReturnType<typeof policiesSummary> } | undefined;

	constructor(options: AnswersOptions) {
		this.#options = options;
	}

	/** The metrics' view. Unlike `status`, it does not reset the lag of the event loop. */
	async sample(): Promise<Omit<Sample, "process">> {
		const { loopLag, policyCounts } = this.#options;
		const peers = await this.peers();
		await this.#countPolicies();
		const status = await this.status(loopLag.peek());
		return { status, peers, policies: [...policyCounts.totals()], ...(await this.#flowUsage()) };
	}

	/** SNAT ports, and flows of the Services in `countFlows` that are served here. */
	async #flowUsage(): Promise<Pick<Sample, "snatPorts" | "snatUse" | "serviceFlows">> {
		const { config, state, kernel } = this.#options;
		const { countFlows } = config().fairwayProxy;
		const { first, last } = config().snat.portRange;
		const services = state().inForce?.services;
		const keys = new Map<number, string>();
		for (const key of countFlows)
			for (const { index } of services?.view(key)?.ports ?? []) if (index > 0) keys.set(index, key);
		const usage = await kernel.flowUsage(keys);
		const counted = [...new Set(keys.values())];
		return {
			snatPorts: last - first + 1,
			snatUse: usage.snat,
			serviceFlows: new Map(counted.map((key) => [key, usage.services.get(key) ?? 0])),
		};
	}

	async status(eventLoop = this.#options.loopLag.read()): Promise<Status> {
		const { nodeName, started, config, kernel, cni, problems } = this.#options;
		const used = kernel.flowsUsed();
		const probes = await this.#probeTotals(this.#options.state().inForce);
		const services = await inTurns(this.#options.serviceCounter.count());
		const { ready, waitingFor, inForce, failure } = this.#options.state();
		return statusOf({
			nodeName,
			ready,
			waitingFor,
			config: config(),
			inForce,
			flows: { used, max: kernel.flowSlots() },
			probes,
			kernel,
			endpoints: cni.endpoints().length,
			uptimeSeconds: (performance.now() - started) / 1000,
			eventLoop,
			sources: this.#options.sources(),
			services,
			policies: this.#policiesSummary(),
			problems: [
				...problems(),
				...(failure === undefined ? [] : [failure]),
				...kernel.problems(),
				...cni.problems(),
			],
		});
	}

	async peers(): Promise<PeerStatus[]> {
		const { kernel, prober, pathEvents } = this.#options;
		const counters = await kernel.peerCounters();
		const { inForce } = this.#options.state();
		const answer: PeerStatus[] = [];
		const turns = new Turns();
		for (const view of inForce?.peers ?? []) {
			if (turns.due) await turns.pass();
			const { peer, facts } = withFacts(view, prober, pathEvents);
			answer.push(peerStatus(peer, counters.get(peerIndex(peer.id, peer.family)), facts));
		}
		return answer;
	}

	endpoints(): EndpointStatus[] {
		return this.#options.cni.endpoints().map(endpointStatus);
	}

	/** @param request undefined: all Services */
	async services(request: unknown): Promise<ServiceStatus[]> {
		const { services, peers } = this.#setUp("show Services");
		const rows = serviceRows(services, readService(request), this.#places(peers));
		const answer: ServiceStatus[] = [];
		const turns = new Turns();
		for (const some of rows) {
			answer.push(...some);
			if (turns.due) await turns.pass();
		}
		const { store, kernel } = this.#options;
		const isWhole = store.isSynced("Service") && store.isSynced("EndpointSlice");
		if (isWhole) return answer;
		for (const { why } of answer) why.push(NOT_ALL_READ);
		if (request !== undefined) return answer;
		const known = new Set<number>();
		for (const key of services.keys()) {
			for (const { index } of services.view(key)?.ports ?? []) known.add(index);
			if (turns.due) await turns.pass();
		}
		return [...answer, ...formerServices(kernel.serviceEntries(), known, this.#places(peers))];
	}

	async check(request: unknown, signal?: AbortSignal): Promise<CheckAnswer> {
		const { nodeName, config, survey, prober } = this.#options;
		const { peers } = this.#setUp("check");
		const candidates = prober.candidates();
		return check(request, {
			node: nodeName,
			mode: config().trafficEncapMode,
			peers: [...new Set([...peers].map(({ node }) => node))],
			hybridDirect: config().hybrid.direct,
			candidate: (survey) => candidates.has(peerKey(survey)),
			survey: (nodes) => survey(nodes, signal),
			leftovers: this.#options.leftovers,
		});
	}

	explain(request: unknown): Promise<ExplainAnswer> {
		const { kernel, cni, prober, names, nodeName, policies } = this.#options;
		const rule = (id: number) => policies.rule(id);
		const { self, peers, network, services } = this.#setUp("explain");
		return explain(request, {
			tables: kernel.tableReader,
			self,
			peer: (index) => {
				const peer = peers.get(index);
				return peer && withReason(peer, prober);
			},
			endpoints: cni.endpoints(),
			interfaces: network.interfaces,
			names,
			servicePort: ({ index, frontend: { address, port } }) =>
				findServicePort(services, names.servicesAt(address, port), index),
			places: this.#places(peers),
			rule,
			policies: async (addresses) => ({
				cluster: await inTurns(clusterAt(this.#clusterSource(), addresses)),
				...{ nodeName, rule, tables: kernel.tableReader },
				atoms: (number) => policies.atomsOf(number)?.map(atomWords),
				nodeOf: (address) => podNode(address, this.#places(peers)),
			}),
		});
	}

	/** @param request undefined: all of them */
	async policies(request: unknown): Promise<PolicyStatus[]> {
		const { store, policies, policyCounts, formerPolicies } = this.#options;
		await this.#countPolicies();
		const key = readPolicy(request);
		const totals = (policy: string) => policyCounts.of(policy);
		if (!policies.isSynced) return formerRows(key, formerPolicies.policies, totals);
		return inTurns(policyRows(key, { store, local: policies.local(), totals }));
	}

	/** For an agent that starts while the cluster cannot be read. */
	async policyNames(): Promise<PolicyNames> {
		const { store, policies } = this.#options;
		const totals = () => ({ flows: 0, denied: 0, staged: 0 });
		return {
			policies: await inTurns(policyRows(undefined, { store, local: policies.local(), totals })),
			...{ rules: policies.rules(), summary: this.#summaryNow() },
		};
	}

	async denials(): Promise<DenialStatus[]> {
		const denials = await this.#options.denials();
		return inTurns(denialRows(denials, this.#clusterSource()));
	}

	async #countPolicies(): Promise<void> {
		const { policies, policyCounts } = this.#options;
		policyCounts.take(await policies.counters(), policies.rules());
	}

	/** What is counted over all Pods is kept until policies change. */
	#policiesSummary(): PoliciesSummary {
		const { policies, formerPolicies } = this.#options;
		const former = policies.isSynced ? undefined : formerPolicies.summary;
		return {
			...{ synced: policies.isSynced, ...(former ?? this.#summaryNow()) },
			...(policies.usage ?? NO_ENTRIES),
			problems: policies.problems().length,
		};
	}

	#summaryNow(): ReturnType<typeof policiesSummary> {
		const { store, policies } = this.#options;
		if (this.#summary?.revision !== policies.revision)
			this.#summary = {
				revision: policies.revision,
				summary: policiesSummary(policies.local(), store),
			};
		return this.#summary.summary;
	}

	async policyDiff(request: unknown): Promise<PolicyDiffAnswer> {
		if (this.#isComparing)
			throw new RequestError(503, "Cannot compare policies: another comparison is under way");
		this.#isComparing = true;
		try {
			const { store, kernel, policies } = this.#options;
			return await policyDiff(request, {
				...this.#clusterSource(),
				isSynced: (kind) => store.isSynced(kind),
				knowsAllPods: () => policies.knowsAllPods,
				liveFlows: () => kernel.liveFlows(),
			});
		} finally {
			this.#isComparing = false;
		}
	}

	#clusterSource(): ClusterSource {
		const { store, cni, nodeName } = this.#options;
		return { store, endpoints: cni.endpoints(), nodeName };
	}

	#places(peers: InForce["peers"]): PlaceContext {
		const { nodeName, kernel } = this.#options;
		return {
			node: nodeName,
			tables: kernel.tableReader,
			peer: (index) => peers.get(index),
			nodes: new Map([...peers].map(({ transportAddress, node }) => [transportAddress, node])),
		};
	}

	#setUp(act: string): InForce {
		const { inForce, waitingFor } = this.#options.state();
		if (inForce !== undefined) return inForce;
		throw new RequestError(
			503,
			`Cannot ${act}: this Node is not set up yet, waiting for ${waitingFor}`,
		);
	}

	async #probeTotals(inForce: InForce | undefined): Promise<Status["probes"]> {
		const { prober, pathEvents } = this.#options;
		const turns = new Turns();
		const total = { sent: 0, answered: 0, late: 0, changes: 0 };
		for (const { id, node, family } of inForce?.peers ?? []) {
			if (turns.due) await turns.pass();
			const probes = prober.countersOf(peerIndex(id, family));
			total.sent += probes?.sent ?? 0;
			total.answered += probes?.answered ?? 0;
			total.late += probes?.late ?? 0;
			total.changes += pathEvents.age(node, family).changes;
		}
		return total;
	}
}

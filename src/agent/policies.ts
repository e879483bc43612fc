/**
 * Network policy in this agent, in a loop of its own: a changed policy waits for no apply.
 *
 *  1. a change of the store or of the local Pods requests a turn
 *  2. until all kinds that policies depend on have been listed, nothing is changed: the policies of an earlier agent
 *     are in force, and new Pods are closed
 *  3. compile the changes (policy_inputs.ts), in slices (src/policy/compiler.ts)
 *  4. write, in the order that keeps each state correct (src/reconcile/maps/policy_writes.ts); a write that the kernel
 *     refuses delays its dependents, and is retried with every turn
 *  5. publish the Pods whose policies are in force, and problems; unused entries are removed by a turn of their own
 *
 * A turn that fails for another reason begins anew from the kernel's entries, and so does one that finds that others have
 * changed it.
 */
import { describe, type Endpoint } from "../cni/endpoint.js";
import { CniError, ErrorCode } from "../cni/errors.js";
import { inTurns } from "../loop/turns.js";
import type { Atom } from "../policy/atoms.js";
import { PolicyCompiler, type PolicyUsage } from "../policy/compiler.js";
import type { LocalPolicies } from "../policy/pod_policies.js";
import type { RuleName } from "../policy/policy_tables.js";
import { RoundWrites } from "../policy/policy_writes.js";
import { keyOf } from "../policy/subjects.js";
import type { PolicyOutcome } from "../reconcile/maps/policy_writes.js";
import type { RuleCounter } from "../tables/generated.js";
import type { Log } from "../text/log.js";
import type { Kernel } from "./kernel.js";
import { Loop } from "./loop.js";
import { PolicyInputs, type PolicyInputsOptions } from "./policy_inputs.js";
import { ProblemLog } from "./problem_log.js";

export interface PoliciesOptions extends PolicyInputsOptions {
	/** See PolicyCompilerOptions. */
	unknownPods: "closed" | "unlabelled";
	kernel: Pick<
		Kernel,
		"adoptPolicies" | "changePolicies" | "policyRules" | "ruleCounters" | "watchPolicies"
	>;
	peerIds: () => ReadonlyMap<string, number>;
	/** An apply has written the endpoints: from then on policies may be. */
	isReady: () => boolean;
	log: Log;
	/** Ids of rules are about to be removed: their counters have to be read now. */
	onRulesGo?: () => Promise<void>;
	/** What ids of rules stand for that an earlier agent gave; default: nothing is known of that. */
	formerRules?: ReadonlyMap<number, RuleName>;
	/** Ids are about to be reassigned. */
	onBegin?: () => void;
	/** What is in force may be something else. */
	onPublished?: () => void;
	/** `problems` are others. */
	onProblems?: () => void;
	/** A change is in force: seconds since it was heard of. */
	onInForce?: (seconds: number) => void;
	/** Until ADD of a Pod that nothing is known of gives up; default: 10,000. */
	unknownMs?: number;
}

const UNKNOWN_MS = 10_000;
/** From the turn that leaves something unused to the one that removes it. */
const GARBAGE_MS = 50;

const NOTHING_HELD = { held: new Set<string>(), inUse: new Set<number>() };

/** A turn that is run again. */
class RefusedError extends Error {}

export class Policies {
	readonly #options: PoliciesOptions;
	readonly #loop: Loop;
	readonly #problems: ProblemLog;
	readonly #input: PolicyInputs;
	#compiler: PolicyCompiler | undefined;
	/** Local Pods whose policies are written, by host interface. */
	#inForce = new Map<string, LocalPolicies>();
	#waiters = new Set<() => void>();
	#garbage: NodeJS.Timeout | undefined;
	#isStopped = false;
	/** "namespace/name" of local Pods. */
	#localKeys = new Set<string>();
	/** `#inForce` is to be read again. */
	#isOther = true;
	/** The kernel's entries differ from those that were written. */
	#isForeign = false;
	/** After the last write: local Pods that wait for refused writes, and their policies meanwhile. */
	#held: Pick<PolicyOutcome, "held" | "inUse"> = NOTHING_HELD;
	#revision = 0;
	/** Problems of the last changes, and of refused writes. */
	#compiled: readonly string[] = [];
	#refused: readonly string[] = [];
	/** performance.now() of the first request that no turn has begun with, and of the changes under way. */
	#heard: number | undefined;
	#began: number | undefined;
	#isFirst = true;
	#formerRules: ReadonlyMap<number, RuleName> | undefined;

	constructor(options: PoliciesOptions) {
		this.#options = options;
		const { store, log } = options;
		this.#problems = new ProblemLog(log, options.onProblems);
		this.#formerRules = options.formerRules;
		this.#input = new PolicyInputs(options);
		this.#loop = new Loop({
			apply: () => this.#turn(),
			settleMs: 1,
			onError: (error, retryMs) => this.#onError(error as Error, retryMs),
		});
		store.listen(() => this.request());
		options.pods?.listen(() => this.request());
		options.kernel.watchPolicies(() => {
			this.#isForeign = true;
			this.#loop.request();
		});
	}

	/** Something may have changed. */
	request(): void {
		this.#heard ??= performance.now();
		this.#loop.request();
		for (const wake of this.#waiters) wake();
	}

	/** Resolves when the present policies are in force, or wait for objects that are not known yet. */
	flush(): Promise<void> {
		return this.#loop.flush();
	}

	/**
	 * Resolves when the policies of this Pod are in force.
	 *
	 * @throws CniError (try again later) if they are not after 10 s
	 */
	async ready(endpoint: Endpoint): Promise<void> {
		const { pods, unknownMs = UNKNOWN_MS } = this.#options;
		const deadline = performance.now() + unknownMs;
		let asked = false;
		for (;;) {
			let failure = "";
			try {
				await this.flush();
			} catch (error) {
				failure = `: ${(error as Error).message}`;
			}
			if (this.#isInForce(endpoint)) return;
			const { namespace, name } = endpoint;
			const left = this.#isStopped ? 0 : deadline - performance.now();
			const change = this.#nextChange(Math.max(0, left));
			if (!asked && pods !== undefined && namespace !== undefined && name !== undefined) {
				asked = true;
				// Its change wakes, too.
				void pods.fetch(namespace, name);
			}
			if (left <= 0)
				throw new CniError(
					ErrorCode.TRY_AGAIN_LATER,
					`Cannot attach ${describe(endpoint)}: its policies are not known${failure}`,
					this.#input.missing(),
				);
			await change;
		}
	}

	/** Sentences for `fairway status`. */
	problems(): readonly string[] {
		return this.#problems.current;
	}

	/** Starts no other turn, and waits for the current one. */
	async stop(): Promise<void> {
		this.#isStopped = true;
		clearTimeout(this.#garbage);
		for (const wake of this.#waiters) wake();
		await this.#loop.stop();
	}

	// ------------------------------------------------------------ what is shown

	/** False: the policies of an earlier agent are in force, or none. */
	get isSynced(): boolean {
		return this.#compiler !== undefined && this.#input.isSynced;
	}

	/** What an id of a rule stands for; undefined: it is not in force. 0 has no name. */
	rule(id: number): RuleName | undefined {
		return this.rules().get(id);
	}

	/** All rules in force, by id; until this agent has given any, those of an earlier one. */
	rules(): ReadonlyMap<number, RuleName> {
		return this.#formerRules ?? this.#options.kernel.policyRules;
	}

	/** The local Pods whose policies are in force, and the policies that select each. */
	local(): IterableIterator<LocalPolicies> {
		return this.#inForce.values();
	}

	/** Counters by id of rule, of those that counted something; read in slices. */
	counters(): Promise<Map<number, RuleCounter>> {
		return this.#options.kernel.ruleCounters(this.rules());
	}

	/** What holds for the addresses of a class; undefined: there is none with this number. */
	atomsOf(number: number): readonly Atom[] | undefined {
		return this.#compiler?.atomsOf(number);
	}

	/** Entries that the tables have; undefined: those of an earlier agent, if any. */
	get usage(): PolicyUsage | undefined {
		return this.#compiler?.usage;
	}

	/** Another number after every turn. */
	get revision(): number {
		return this.#revision;
	}

	/** False: of Pods elsewhere nothing is known. */
	get knowsAllPods(): boolean {
		const { pods } = this.#options;
		return pods === undefined || pods.hasOthers;
	}

	// ------------------------------------------------------------ a turn

	async #turn(): Promise<void> {
		const { kernel, isReady } = this.#options;
		if (!isReady()) return;
		if (this.#isForeign) this.#compiler = undefined;
		this.#isForeign = false;
		const heard = this.#heard;
		this.#heard = undefined;
		this.#input.note(this.#compiler !== undefined);
		// Most changes of the store concern no policies.
		if (this.#input.hasChanged) this.#began ??= heard;
		if (!this.#input.hasAll()) {
			if (this.#compiler !== undefined) this.#publish(await kernel.changePolicies());
			return;
		}
		const isAnew = this.#compiler === undefined;
		this.#compiler ??= await this.#begin();
		const compiler = this.#compiler;
		this.#isOther ||= this.#input.hasChangedPods(this.#localKeys);
		const changed = this.#input.take(isAnew);
		const endpoints = this.#input.changedEndpoints();
		let outcome: PolicyOutcome;
		try {
			const { inUse } = this.#held;
			const changes = await inTurns(
				compiler.update({ changed, inUse, ...(endpoints !== undefined && { endpoints }) }),
			);
			this.#isOther ||= endpoints !== undefined || changes.writes.length > 0;
			this.#compiled = changes.problems;
			const ids = this.#options.peerIds();
			if (changes.hasGarbage) this.#removeLater();
			const goes = changes.writes instanceof RoundWrites && changes.writes.removesRules;
			if (goes) await this.#options.onRulesGo?.();
			outcome = await kernel.changePolicies(changes, (node) => ids.get(node));
		} catch (error) {
			// Whatever was taken in: the kernel's tables are whole at every moment.
			this.#compiler = undefined;
			throw error;
		}
		this.#publish(outcome);
		const began = this.#began;
		this.#began = undefined;
		// At first everything is new, and has not changed just now.
		if (began !== undefined && outcome.writes > 0 && !this.#isFirst)
			this.#options.onInForce?.((performance.now() - began) / 1000);
		this.#isFirst = false;
	}

	/** @throws RefusedError if the kernel has refused something, for which there is another turn */
	#publish(outcome: PolicyOutcome): void {
		const { problems, held } = outcome;
		this.#isOther ||= held.size > 0 || this.#held.held.size > 0;
		this.#held = outcome;
		this.#revision++;
		if (this.#isOther) {
			this.#isOther = false;
			const local = [...(this.#compiler?.local() ?? [])];
			const inForce = local.flatMap((one) =>
				held.has(one.endpoint.id) ? (this.#inForce.get(one.endpoint.id) ?? []) : one,
			);
			this.#inForce = new Map(inForce.map((one) => [one.endpoint.id, one]));
			this.#localKeys = new Set(local.map(({ endpoint }) => keyOf(endpoint)));
			const waiting = local.filter(({ endpoint }) => held.has(endpoint.id));
			this.#refused = waiting.length === 0 ? [] : [waitingText(waiting)];
		}
		this.#problems.update([...this.#compiled, ...this.#refused]);
		if (outcome.writes > 0) this.#options.onPublished?.();
		if (problems.length > 0) throw new RefusedError(problems.join("; "));
	}

	/** A new compiler, beside the kernel's entries. */
	async #begin(): Promise<PolicyCompiler> {
		const { kernel, store, nodeName, unknownPods } = this.#options;
		const held = await kernel.adoptPolicies();
		this.#options.onBegin?.();
		this.#formerRules = undefined;
		this.#input.forgetEndpoints();
		this.#isOther = true;
		this.#held = NOTHING_HELD;
		return new PolicyCompiler({ source: store, nodeName, unknownPods, held });
	}

	#removeLater(): void {
		if (this.#isStopped) return;
		this.#garbage ??= setTimeout(() => {
			this.#garbage = undefined;
			this.#loop.request();
		}, GARBAGE_MS);
	}

	#onError(error: Error, retryMs: number): void {
		const { log } = this.#options;
		if (error instanceof RefusedError)
			log.warn({ err: error.message, retryMs }, "kernel refused writes of network policy");
		else log.error({ err: error, retryMs }, "applying network policy failed, will retry");
	}

	// ------------------------------------------------------------ new Pods

	#isInForce({ hostInterface }: Endpoint): boolean {
		return this.#inForce.get(hostInterface)?.isKnown === true;
	}

	/** Resolves with the next change of anything, at the latest after that many ms. */
	#nextChange(ms: number): Promise<void> {
		return new Promise((resolve) => {
			const wake = () => {
				clearTimeout(timer);
				this.#waiters.delete(wake);
				resolve();
			};
			const timer = setTimeout(wake, ms);
			this.#waiters.add(wake);
		});
	}
}

/** Pods that one sentence names. */
const NAMED = 5;

function waitingText(waiting: readonly LocalPolicies[]): string {
	const names = waiting.slice(0, NAMED).map(({ endpoint }) => keyOf(endpoint));
	const more = waiting.length > NAMED ? ` and ${waiting.length - NAMED} more` : "";
	return `The kernel refuses the new policies of ${names.join(", ")}${more}: the last ones stay, a new Pod is closed`;
}

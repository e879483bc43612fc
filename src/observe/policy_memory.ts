/**
 * The names of the policies and rules in force, in `RUN_DIR/policies.json`: an agent that starts while the cluster cannot
 * be read finds its policies in the kernel, where they have numbers only. An unreadable file counts as missing.
 *
 *  1. a change in force is written a second later, then not again for half a minute
 *  2. an agent that is about to write policies of its own removes the names of an earlier one: numbers are reused, and
 *     a wrong name is worse than none
 */
import { readFileSync, renameSync, rmSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { PoliciesSummary, PolicyStatus } from "../api/messages/policies.js";
import { Turns } from "../loop/turns.js";
import type { RuleName } from "../policy/policy_tables.js";

/** Raised with every change of the following. */
const FORMAT = 1;
const SETTLE_MS = 1000;
const PAUSE_MS = 30_000;
/** Some 150 bytes each. */
const RULES_MOST = 10_000;
const POLICIES_MOST = 2_000;
/** Names of isolation, to which every isolating policy contributes. */
const POLICIES_OF_RULE = 4;

/** Names of the policies that select a Pod of this Node. */
export interface PolicyNames {
	rules: ReadonlyMap<number, RuleName>;
	policies: readonly PolicyStatus[];
	summary: Pick<PoliciesSummary, "enforced" | "staged" | "unusable" | "pods"> | undefined;
}

export class PolicyMemory {
	readonly #file: string;
	readonly #collect: () => Promise<PolicyNames>;
	readonly #onError: (error: unknown) => void;
	#timer: NodeJS.Timeout | undefined;
	#saving: Promise<void> | undefined;
	#notBefore = 0;

	/** @param collect returns what is in force, when the file is written */
	constructor(
		file: string,
		collect: () => Promise<PolicyNames>,
		onError: (error: unknown) => void,
	) {
		this.#file = file;
		this.#collect = collect;
		this.#onError = onError;
	}

	static read(file: string): PolicyNames {
		const nothing: PolicyNames = { rules: new Map(), policies: [], summary: undefined };
		try {
			const known = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
			const { format, rules, policies, summary } = known;
			if (format !== FORMAT || !Array.isArray(rules) || !Array.isArray(policies)) return nothing;
			return { rules: new Map(rules), policies, summary: summary as PolicyNames["summary"] };
		} catch {
			return nothing;
		}
	}

	/** To be called after a change of what is in force. */
	changed(): void {
		const left = Math.max(SETTLE_MS, this.#notBefore - performance.now());
		this.#timer ??= setTimeout(() => {
			this.#timer = undefined;
			// One at a time: changes made meanwhile go into the next write.
			if (this.#saving !== undefined) this.changed();
			else
				this.#saving = this.#save().finally(() => {
					this.#saving = undefined;
				});
		}, left).unref();
	}

	/** Removes what an earlier agent wrote: it no longer holds. */
	forget(): void {
		try {
			rmSync(this.#file, { force: true });
		} catch (error) {
			this.#onError(error);
		}
	}

	/** Writes a change that is pending. Never rejects. */
	async close(): Promise<void> {
		const isLeft = this.#timer !== undefined;
		clearTimeout(this.#timer);
		await this.#saving;
		if (isLeft) await this.#save();
	}

	/** Never rejects. */
	async #save(): Promise<void> {
		const beside = `${this.#file}.new`;
		this.#notBefore = performance.now() + PAUSE_MS;
		try {
			const text: string[] = [];
			const turns = new Turns();
			for (const piece of pieces(await this.#collect())) {
				text.push(piece);
				if (turns.due) await turns.pass();
			}
			await mkdir(dirname(this.#file), { recursive: true });
			await writeFile(beside, text, { mode: 0o600 });
			renameSync(beside, this.#file);
		} catch (error) {
			this.#onError(error);
		}
	}
}

/** The file's text. If a map changes meanwhile, each rule is written as it was or as it is. */
function* pieces({ rules, policies, summary }: PolicyNames): Generator<string> {
	yield `{"format":${FORMAT},"summary":${JSON.stringify(summary ?? null)},"rules":[`;
	let count = 0;
	for (const [id, name] of rules) {
		if (count === RULES_MOST) break;
		const short = { ...name, policies: name.policies.slice(0, POLICIES_OF_RULE) };
		yield `${count++ === 0 ? "" : ","}${JSON.stringify([id, short])}`;
	}
	yield `],"policies":[`;
	for (const [i, policy] of policies.slice(0, POLICIES_MOST).entries())
		yield `${i === 0 ? "" : ","}${JSON.stringify(policy)}`;
	yield "]}";
}

/**
 * What the table of endpoints is to have: an element for each address of a Pod whose interface exists, with the Pod's
 * index and its policies. Policies change an element without an apply.
 */
import { isDeepStrictEqual } from "node:util";
import type { Steps } from "../../loop/turns.js";
import { type Endpoint, EndpointPolicy } from "../../tables/generated.js";
import type { Tables } from "../../tables/tables.js";
import type { Links } from "../links.js";
import type { EntryFailure } from "./agent_tables.js";
import { endpointIndexes } from "./endpoint_indexes.js";
import type { OwnedTable } from "./owned_table.js";
import type { PolicyTables } from "./policy_tables.js";

export type WantedEndpoint = Tables["endpoints"] extends Map<string, infer E> ? E : never;

export class EndpointEntries {
	readonly #table: OwnedTable<string, Endpoint>;
	readonly #policiesOf: PolicyTables["policiesOf"];
	/** Why an element is not as wanted, by address. */
	readonly #refusals = new Map<string, string>();
	/** By address. */
	#wanted = new Map<string, Endpoint>();
	/** Whose address each is. */
	#interfaces = new Map<string, string>();

	constructor(table: OwnedTable<string, Endpoint>, policiesOf: PolicyTables["policiesOf"]) {
		this.#table = table;
		this.#policiesOf = policiesOf;
	}

	/**
	 * These are wanted from now on, as the links are now. An endpoint without its interface is left out.
	 *
	 * Returns the steps that find what differs from the kernel.
	 */
	want(wanted: Tables["endpoints"], links: Links): Steps<void> {
		return this.#table.want(this.#resolved(wanted, links));
	}

	/** Begins the writes of an apply: what was refused before is tried again. */
	begin(): void {
		this.#refusals.clear();
	}

	/** The kernel refused these writes of the apply. */
	refused(failures: readonly EntryFailure<string>[]): void {
		for (const { key, message } of failures) this.#refusals.set(key, message);
	}

	/** Why this address has no entry, or not the one that is wanted; undefined: it has. */
	problem(address: string, wanted: WantedEndpoint, links: Links): string | undefined {
		const refusal = this.#refusals.get(address);
		if (refusal !== undefined) return refusal;
		const written = this.#table.held.get(address);
		const device = links.named(wanted.interface);
		if (written !== undefined && written.ifindex === device?.ifindex && written.mac === wanted.mac)
			return this.#policyProblem(address, written);
		return `Cannot find an entry for ${address} in the endpoints table: its interface is gone`;
	}

	/** A Pod that has an element has its policies in it, too. */
	#policyProblem(address: string, written: Endpoint): string | undefined {
		const wanted = this.#wanted.get(address);
		const is = wanted === undefined || isDeepStrictEqual(wanted, written);
		return is ? undefined : `Cannot find the policies of ${address} in the endpoints table`;
	}

	/** Its policies are others now. What has no element yet has them once an apply writes it. */
	renew(address: string): EntryFailure<string>[] {
		const before = this.#wanted.get(address);
		if (before === undefined) return [];
		const now = this.#withPolicies(address, this.#interfaces.get(address) ?? "", before);
		this.#wanted.set(address, now);
		const held = this.#table.held.get(address);
		if (held !== undefined && isSamePod(held, now)) return this.#table.write(address, now);
		this.#table.check(address);
		return [];
	}

	/** Closed until its policies are known. Until any are, a Pod of before has what it had. */
	#withPolicies(address: string, name: string, endpoint: Endpoint): Endpoint {
		const known = this.#policiesOf(address, name);
		let [egressPolicy, ingressPolicy]: number[] = [
			EndpointPolicy.NOT_READY,
			EndpointPolicy.NOT_READY,
		];
		if (known === "before") {
			const held = this.#table.held.get(address);
			if (held !== undefined && isSamePod(held, endpoint)) ({ egressPolicy, ingressPolicy } = held);
		} else if (known !== undefined) ({ egress: egressPolicy, ingress: ingressPolicy } = known);
		return { ...endpoint, egressPolicy: egressPolicy!, ingressPolicy: ingressPolicy! };
	}

	/** Their entries, of those whose interface exists, each with its Pod's index and policies. */
	#resolved(wanted: Tables["endpoints"], links: Links): Map<string, Endpoint> {
		const present = [...wanted].flatMap(([address, { interface: name, mac }]) => {
			const ifindex = links.named(name)?.ifindex;
			return ifindex === undefined ? [] : [{ address, name, mac, ifindex }];
		});
		// A device that no longer exists, or was replaced by one of the same name, has no name here.
		const held = [...this.#table.held.values()].map(({ ifindex, mac, index }) => ({
			interface: links.at(ifindex)?.name ?? "",
			mac,
			index,
		}));
		const indexes = endpointIndexes(
			present.map(({ name }) => name),
			held,
		);
		const interfaces = new Map(present.map(({ address, name }) => [address, name]));
		const resolved = new Map(
			present.map(({ address, name, mac, ifindex }) => {
				const nothing = { egressPolicy: 0, ingressPolicy: 0 };
				const endpoint = { ifindex, mac, index: indexes.get(name) ?? 0, ...nothing };
				return [address, this.#withPolicies(address, name, endpoint)];
			}),
		);
		this.#wanted = resolved;
		this.#interfaces = interfaces;
		return resolved;
	}
}

function isSamePod(a: Endpoint, b: Endpoint): boolean {
	return a.ifindex === b.ifindex && a.mac === b.mac;
}

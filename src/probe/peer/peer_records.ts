/**
 * What the prober keeps for each peer, by its index in `peers`: columns of numbers and shared texts. Objects are made on
 * request.
 */
import { grown } from "../../columns/grow.js";
import type { PathVerdict, ProbedPeer } from "../../compile/compile.js";
import type { ProbeCounters } from "../prober.js";
import type { PeerState, Policy } from "./peer_state.js";
import { PeerStates } from "./peer_states.js";
import { ProbedPeers } from "./probed_peers.js";

/** A peer whose state is needed now. */
export interface Probed {
	readonly peer: ProbedPeer;
	readonly row: number;
	/** Valid until the next call. */
	readonly state: PeerState;
}

export class PeerRecords {
	/** Index in peers → row + 1; 0: there is none. */
	#rows: Int32Array = new Int32Array(0);
	/** This and the following are by row. */
	readonly #peers = new ProbedPeers();
	readonly #verdicts: PathVerdict[] = [];
	readonly #states = new PeerStates();
	#sent: Uint32Array = new Uint32Array(0);
	#answered: Uint32Array = new Uint32Array(0);
	#late: Uint32Array = new Uint32Array(0);
	/** When the totals were last read, ms. */
	#totalsAt: Float64Array = new Float64Array(0);

	/** Replaces the peer with this index. */
	add(peer: ProbedPeer, state: PeerState, verdict: PathVerdict): void {
		this.delete(peer.index);
		const row = this.#states.add(state);
		this.#rows = grown(this.#rows, peer.index + 1);
		this.#rows[peer.index] = row + 1;
		this.#peers.set(row, peer);
		this.#verdicts[row] = verdict;
		this.#sent = grown(this.#sent, row + 1);
		this.#answered = grown(this.#answered, row + 1);
		this.#late = grown(this.#late, row + 1);
		this.#totalsAt = grown(this.#totalsAt, row + 1);
		for (const counter of [this.#sent, this.#answered, this.#late]) counter[row] = 0;
		// Traffic may already be active; the core reports only its beginning.
		this.#totalsAt[row] = Number.NEGATIVE_INFINITY;
	}

	delete(index: number): void {
		const row = this.#row(index);
		if (row < 0) return;
		this.#states.remove(row);
		this.#rows[index] = 0;
		this.#peers.delete(row);
	}

	*indexes(): Generator<number, void> {
		for (let index = 0; index < this.#rows.length; index++)
			if (this.#rows[index] !== 0) yield index;
	}

	*peers(): Generator<ProbedPeer, void> {
		for (const index of this.indexes()) yield this.peer(index)!;
	}

	/** A new object. */
	peer(index: number): ProbedPeer | undefined {
		const row = this.#row(index);
		return row < 0 ? undefined : this.#peers.get(row);
	}

	/** The same peer, compiled anew. */
	setPeer(peer: ProbedPeer): void {
		this.#peers.set(this.#row(peer.index), peer);
	}

	/** The rules that its state was made with. */
	policy(index: number): Policy | undefined {
		const row = this.#row(index);
		return row < 0 ? undefined : this.#states.policy(row, this.#peers.get(row));
	}

	verdict(index: number): PathVerdict | undefined {
		const row = this.#row(index);
		return row < 0 ? undefined : this.#verdicts[row];
	}

	setVerdict(index: number, verdict: PathVerdict): void {
		this.#verdicts[this.#row(index)] = verdict;
	}

	get(index: number): Probed | undefined {
		const row = this.#row(index);
		if (row < 0) return undefined;
		const peer = this.#peers.get(row);
		return { peer, row, state: this.#states.take(row, peer) };
	}

	/** Stores the next state, and adds what was counted since the last one. */
	write(row: number, state: PeerState, { sent, answered, late }: ProbeCounters): void {
		this.#states.write(row, state);
		this.#sent[row]! += sent;
		this.#answered[row]! += answered;
		this.#late[row]! += late;
	}

	hold(index: number): number {
		return this.#states.hold(this.#row(index));
	}

	counters(index: number): ProbeCounters | undefined {
		const row = this.#row(index);
		if (row < 0) return undefined;
		return { sent: this.#sent[row]!, answered: this.#answered[row]!, late: this.#late[row]! };
	}

	sent(row: number): number {
		return this.#sent[row]!;
	}

	totalsAt(row: number): number {
		return this.#totalsAt[row]!;
	}

	setTotalsAt(row: number, now: number): void {
		this.#totalsAt[row] = now;
	}

	#row(index: number): number {
		return (this.#rows[index] ?? 0) - 1;
	}
}

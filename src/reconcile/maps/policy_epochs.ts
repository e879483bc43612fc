/**
 * The policy epochs of peers. Only this table writes them: other writers of `peers` leave them unchanged, and
 * comparisons of entries ignore them.
 */
import { Limit, type Peer } from "../../tables/generated.js";
import type { Form } from "./owned_table.js";

const EPOCHS = 2 ** 16;

export class PolicyEpochs implements Form<number, Peer> {
	/** By index of peers. */
	readonly #epochs = new Uint16Array(Limit.PEERS_MAX * 2);

	/** What the kernel holds when this begins. */
	adopt(peers: ReadonlyMap<number, Peer>): void {
		for (const [index, { policyEpoch }] of peers) this.#epochs[index] = policyEpoch;
	}

	/** Returns true where it begins anew: flows with an epoch of long ago would pass for current. */
	raise(index: number): boolean {
		const epoch = (this.#epochs[index]! + 1) % EPOCHS;
		this.#epochs[index] = epoch;
		return epoch === 0;
	}

	write(index: number, peer: Peer): Peer {
		return { ...peer, policyEpoch: this.#epochs[index]! };
	}

	/** Another one than the last that was written is a difference. */
	read(index: number, peer: Peer): Peer {
		const isOwn = peer.policyEpoch === this.#epochs[index];
		return { ...peer, policyEpoch: isOwn ? 0 : peer.policyEpoch || 1 };
	}
}

/**
 * Packets of Pods whose next hop the kernel is resolving: the last one of each flow, while that takes. When the kernel
 * gives up on a next hop, their senders get an ICMP error. A Pod with too many flows loses its own oldest one.
 */
export interface UnresolvedPacketsOptions {
	/** Milliseconds; 5000: the kernel gives up after three solicitations, one a second. */
	patience?: number;
	/** Flows of a Pod; 16. */
	share?: number;
	/** Monotonic milliseconds. */
	clock?: () => number;
}

export interface NextHopAddress {
	address: string;
	/** Index of the device; undefined: unknown, and then it matches no link-local address. */
	ifindex: number | undefined;
}

interface Entry<P> {
	packet: P;
	nextHop: NextHopAddress;
	since: number;
}

export class UnresolvedPackets<P> {
	readonly #options: Required<UnresolvedPacketsOptions>;
	/** By endpoint.index and flow, in order of arrival. */
	readonly #pods = new Map<number, Map<string, Entry<P>>>();
	#timer: NodeJS.Timeout | undefined;

	constructor(options: UnresolvedPacketsOptions = {}) {
		this.#options = { patience: 5000, share: 16, clock: () => performance.now(), ...options };
	}

	get size(): number {
		let size = 0;
		for (const flows of this.#pods.values()) size += flows.size;
		return size;
	}

	/** @param pod endpoint.index of the sender */
	hold(packet: P, pod: number, flow: string, nextHop: NextHopAddress): void {
		const { clock, share, patience } = this.#options;
		const flows = this.#pods.get(pod) ?? new Map<string, Entry<P>>();
		this.#pods.set(pod, flows);
		flows.delete(flow);
		flows.set(flow, { packet, nextHop, since: clock() });
		const [oldest] = flows.keys();
		if (flows.size > share && oldest !== undefined) flows.delete(oldest);
		this.#timer ??= setTimeout(() => this.#sweep(), patience).unref();
	}

	/** Removes and returns the packets that wait for this next hop, which has not answered. */
	take(nextHop: NextHopAddress): P[] {
		this.#expire();
		const taken: P[] = [];
		for (const [pod, flows] of this.#pods) {
			for (const [flow, entry] of flows) {
				if (!isSame(entry.nextHop, nextHop)) continue;
				taken.push(entry.packet);
				flows.delete(flow);
			}
			if (flows.size === 0) this.#pods.delete(pod);
		}
		return taken;
	}

	close(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#pods.clear();
	}

	#sweep(): void {
		this.#timer = undefined;
		this.#expire();
		if (this.#pods.size > 0)
			this.#timer = setTimeout(() => this.#sweep(), this.#options.patience).unref();
	}

	#expire(): void {
		const { clock, patience } = this.#options;
		const now = clock();
		for (const [pod, flows] of this.#pods) {
			for (const [flow, { since }] of flows) {
				if (now - since <= patience) break;
				flows.delete(flow);
			}
			if (flows.size === 0) this.#pods.delete(pod);
		}
	}
}

/** A link-local address names a host only together with the link; any other address by itself. */
function isSame(one: NextHopAddress, other: NextHopAddress): boolean {
	if (one.address !== other.address) return false;
	return !/^fe[89ab]/.test(one.address) || one.ifindex === other.ifindex;
}

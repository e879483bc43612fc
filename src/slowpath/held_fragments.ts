/**
 * Later fragments that arrived before their first one, held until the first one shows their ports, or until a time-out.
 * Fragments of one datagram wait together: one look-up serves all of them, and the pauses between look-ups
 * double. A source with too many held fragments loses its own oldest one.
 */
export interface HeldFragmentsOptions<F, P, C> {
	/** Reads what a round of look-ups needs, once for all of them; undefined: not possible now. */
	context: () => C | undefined;
	/** The ports and protocol from the first fragment of this datagram; undefined: it has not arrived yet. */
	find: (fragment: F, context: C) => P | undefined;
	/** Sends a fragment on, or drops it. */
	release: (fragment: F, ports: P, context: C) => void;
	/** A fragment timed out, or was evicted. */
	onExpired: (fragment: F) => void;
	/** Milliseconds; 2000. */
	patience?: number;
	/** Fragments of a source; 64: those of a datagram of 64 KiB at an MTU of 1500, and some more. */
	share?: number;
	/** Most fragments of all strangers together, see `hold`; 256. */
	most?: number;
	/** Monotonic milliseconds. */
	clock?: () => number;
}

/** Milliseconds between look-ups of a datagram: the first pause, which doubles up to the longest. */
const PAUSE = { first: 5, longest: 320 };
/** Look-ups in one turn of the event loop: about a millisecond. */
const ROUND = 256;

interface Entry<F> {
	fragment: F;
	since: number;
	datagram: string;
	source: Source<F>;
}

interface Source<F> {
	name: string;
	/** In order of arrival. */
	entries: Set<Entry<F>>;
}

interface Datagram<F> {
	entries: Set<Entry<F>>;
	due: number;
	pause: number;
}

export class HeldFragments<F, P, C> {
	readonly #options: Required<HeldFragmentsOptions<F, P, C>>;
	readonly #datagrams = new Map<string, Datagram<F>>();
	/** By source; strangers are also in `#strangers`. */
	readonly #sources = new Map<string, Source<F>>();
	readonly #strangers = new Set<Entry<F>>();
	#timer: NodeJS.Timeout | undefined;
	/** When the timer is due. */
	#due = 0;

	constructor(options: HeldFragmentsOptions<F, P, C>) {
		const defaults = { patience: 2000, share: 64, most: 256, clock: () => performance.now() };
		this.#options = { ...defaults, ...options };
	}

	get size(): number {
		let size = 0;
		for (const { entries } of this.#datagrams.values()) size += entries.size;
		return size;
	}

	/**
	 * @param datagram the same for all fragments of one
	 * @param source the source whose share it counts towards
	 * @param isStranger a source that can be forged: all such sources together share `most`
	 */
	hold(fragment: F, datagram: string, source: string, isStranger: boolean): void {
		const { clock, most, onExpired, share } = this.#options;
		const now = clock();
		const own: Source<F> = this.#sources.get(source) ?? { name: source, entries: new Set() };
		this.#sources.set(source, own);
		const entry: Entry<F> = { fragment, since: now, datagram, source: own };
		own.entries.add(entry);
		if (isStranger) this.#strangers.add(entry);
		const waiting = this.#datagrams.get(datagram);
		if (waiting !== undefined) waiting.entries.add(entry);
		else {
			const due = now + PAUSE.first;
			this.#datagrams.set(datagram, { entries: new Set([entry]), due, pause: PAUSE.first });
			this.#schedule(due);
		}
		const isFull = this.#strangers.size > most;
		const [oldest] = own.entries.size > share ? own.entries : isFull ? this.#strangers : [];
		if (oldest === undefined) return;
		this.#remove(oldest);
		onExpired(oldest.fragment);
	}

	/** Looks up the datagrams that are due, and schedules the next round while any are left. */
	retry(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		const { clock, context, onExpired, patience } = this.#options;
		const now = clock();
		const round = context();
		let left = ROUND;
		for (const [key, datagram] of this.#datagrams) {
			if (datagram.due > now) continue;
			if (left-- === 0) break;
			if (round !== undefined && this.#released(datagram, round)) continue;
			for (const entry of datagram.entries) {
				if (now - entry.since <= patience) continue;
				this.#remove(entry);
				onExpired(entry.fragment);
			}
			datagram.pause = Math.min(datagram.pause * 2, PAUSE.longest);
			datagram.due = now + datagram.pause;
			// At the end of the list: when a round is full, the next one continues with the others.
			if (this.#datagrams.delete(key) && datagram.entries.size > 0)
				this.#datagrams.set(key, datagram);
		}
		let due = Number.POSITIVE_INFINITY;
		for (const datagram of this.#datagrams.values()) due = Math.min(due, datagram.due);
		if (this.#datagrams.size > 0) this.#schedule(due);
	}

	close(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#datagrams.clear();
		this.#sources.clear();
		this.#strangers.clear();
	}

	#released({ entries }: Datagram<F>, round: C): boolean {
		const { find, release } = this.#options;
		const [first] = entries;
		const ports = first && find(first.fragment, round);
		if (ports === undefined) return false;
		for (const entry of entries) {
			this.#remove(entry);
			release(entry.fragment, ports, round);
		}
		return true;
	}

	#remove(entry: Entry<F>): void {
		const { name, entries } = entry.source;
		entries.delete(entry);
		if (entries.size === 0) this.#sources.delete(name);
		this.#strangers.delete(entry);
		const datagram = this.#datagrams.get(entry.datagram);
		datagram?.entries.delete(entry);
		if (datagram?.entries.size === 0) this.#datagrams.delete(entry.datagram);
	}

	/** Schedules a round at `due`, unless an earlier one is scheduled. */
	#schedule(due: number): void {
		if (this.#timer !== undefined && this.#due <= due) return;
		clearTimeout(this.#timer);
		this.#due = due;
		const pause = Math.max(0, due - this.#options.clock());
		this.#timer = setTimeout(() => this.retry(), pause).unref();
	}
}

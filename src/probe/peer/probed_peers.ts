/** Probed peers by row, without an object for each: thousands of them differ only in their name and three addresses. */
import { grown } from "../../columns/grow.js";
import { Pool } from "../../columns/pool.js";
import type { ProbedPeer } from "../../compile/compile.js";
import type { ProbedPath } from "../../compile/peer.js";

/** All fields but names and addresses. */
interface Kind extends Pick<ProbedPeer, "family" | "source" | "lacks" | "candidate"> {
	direct: Omit<ProbedPath, "remote"> | undefined;
	tunnel: Omit<ProbedPath, "remote"> | undefined;
}

export class ProbedPeers {
	readonly #kinds = new Pool<Kind>();
	/** Index of the kind + 1; 0: the row is free. */
	#kindOf: Uint32Array = new Uint32Array(0);
	#indexes: Uint32Array = new Uint32Array(0);
	readonly #nodes: string[] = [];
	readonly #destinations: string[] = [];
	readonly #direct: string[] = [];
	readonly #tunnel: string[] = [];

	/** Replaces the peer of this row. */
	set(row: number, peer: ProbedPeer): void {
		this.delete(row);
		this.#kindOf = grown(this.#kindOf, row + 1);
		this.#indexes = grown(this.#indexes, row + 1);
		const { index, node, destination, direct, tunnel } = peer;
		const { family, source, lacks, candidate } = peer;
		const kind = { family, source, lacks, candidate, direct: rest(direct), tunnel: rest(tunnel) };
		this.#kindOf[row] = this.#kinds.take(JSON.stringify(kind), () => kind) + 1;
		this.#indexes[row] = index;
		this.#nodes[row] = node;
		this.#destinations[row] = destination;
		this.#direct[row] = direct?.remote ?? "";
		this.#tunnel[row] = tunnel?.remote ?? "";
	}

	/** A free row is left as it is. */
	delete(row: number): void {
		const kind = this.#kindOf[row] ?? 0;
		if (kind === 0) return;
		this.#kinds.release(kind - 1);
		this.#kindOf[row] = 0;
		for (const texts of [this.#nodes, this.#destinations, this.#direct, this.#tunnel])
			texts[row] = "";
	}

	/** A new object. The row must not be free. */
	get(row: number): ProbedPeer {
		const { direct, tunnel, family, source, lacks, candidate } = this.#kinds.at(
			this.#kindOf[row]! - 1,
		);
		return {
			index: this.#indexes[row]!,
			node: this.#nodes[row]!,
			family,
			source,
			destination: this.#destinations[row]!,
			direct: direct && whole(direct, this.#direct[row]!),
			tunnel: tunnel && whole(tunnel, this.#tunnel[row]!),
			lacks,
			candidate,
		};
	}
}

function rest(path: ProbedPath | undefined): Kind["direct"] {
	if (path === undefined) return undefined;
	const { path: name, outerFamily, port, local, mtu } = path;
	return { path: name, outerFamily, port, local, mtu };
}

function whole(
	{ path, outerFamily, port, local, mtu }: Omit<ProbedPath, "remote">,
	remote: string,
): ProbedPath {
	return { path, outerFamily, port, local, remote, mtu };
}

/**
 * Records of numbers, all of one size, outside V8's heap. They lie in pieces that never move: nothing is copied while
 * their number grows, and what was never used takes no memory.
 */

const PIECE_BITS = 10;
const PIECE = 1 << PIECE_BITS;

/** The same memory in three ways. */
export interface Piece {
	readonly doubles: Float64Array;
	readonly words: Uint32Array;
	readonly bytes: Uint8Array;
}

export class Rows {
	readonly #size: number;
	readonly #pieces: Piece[] = [];
	readonly #free: number[] = [];
	#next = 0;

	/** @param size bytes of a record, a multiple of 8 */
	constructor(size: number) {
		if (size <= 0 || size % 8 !== 0)
			throw new Error(`Cannot make rows: expected a multiple of 8 bytes, got ${size}`);
		this.#size = size;
	}

	/** The number of a record of zeros; one that was removed is used again. */
	add(): number {
		const row = this.#free.pop() ?? this.#next++;
		if (row >> PIECE_BITS === this.#pieces.length) {
			const memory = new ArrayBuffer(PIECE * this.#size);
			this.#pieces.push({
				doubles: new Float64Array(memory),
				words: new Uint32Array(memory),
				bytes: new Uint8Array(memory),
			});
		}
		const start = this.start(row);
		this.piece(row).bytes.fill(0, start, start + this.#size);
		return row;
	}

	/** Its number must be in use. */
	remove(row: number): void {
		this.#free.push(row);
	}

	piece(row: number): Piece {
		return this.#pieces[row >> PIECE_BITS]!;
	}

	/** Byte at which the record begins in its piece. */
	start(row: number): number {
		return (row & (PIECE - 1)) * this.#size;
	}
}

/** Building blocks of the generated codecs. Integers are little-endian unless the C type is __be. */
import { ADDRESS_SIZE, formatAddress, parseAddress, readAddress, writeAddress } from "./address.js";

/** Converts between a value and its bytes in a map. Encoding throws if a value does not fit its field. */
export interface Codec<T> {
	/** Bytes. */
	readonly size: number;
	encode(value: T): Buffer;
	decode(buffer: Buffer, offset?: number): T;
	/** Encodes into an existing buffer, for batches. */
	write(buffer: Buffer, offset: number, value: T): void;
}

export function codec<T>(
	size: number,
	write: (buffer: Buffer, offset: number, value: T) => void,
	read: (buffer: Buffer, offset: number) => T,
): Codec<T> {
	return {
		size,
		write,
		encode(value) {
			// Padding must be zero: it is part of hash keys.
			const buffer = Buffer.alloc(size);
			write(buffer, 0, value);
			return buffer;
		},
		decode(buffer, offset = 0) {
			if (buffer.length < offset + size)
				throw new Error(`Cannot decode: expected ${size} bytes, got ${buffer.length - offset}`);
			return read(buffer, offset);
		},
	};
}

export const u8 = codec<number>(
	1,
	(buffer, offset, value) => buffer.writeUInt8(value, offset),
	(buffer, offset) => buffer.readUInt8(offset),
);

export const u32 = codec<number>(
	4,
	(buffer, offset, value) => buffer.writeUInt32LE(value, offset),
	(buffer, offset) => buffer.readUInt32LE(offset),
);

export const u64 = codec<bigint>(
	8,
	(buffer, offset, value) => buffer.writeBigUInt64LE(value, offset),
	(buffer, offset) => buffer.readBigUInt64LE(offset),
);

/** struct address as canonical text; "" for none. */
export const address = codec<string>(ADDRESS_SIZE, writeAddress, readAddress);

/** The key of a longest-prefix-match trie over addresses: "10.0.0.0/8". */
export const prefix = codec<string>(
	4 + ADDRESS_SIZE,
	(buffer, offset, text) => {
		const match = /^(.+)\/(0|[1-9]\d{0,2})$/.exec(text);
		const bytes = match?.[1] === undefined ? undefined : parseAddress(match[1]);
		const width = text.includes(":") ? 128 : 32;
		const length = Number(match?.[2]);
		if (!bytes || length > width)
			throw new Error(`Cannot encode prefix: expected address/length, got ${JSON.stringify(text)}`);
		buffer.writeUInt32LE(length + 128 - width, offset);
		bytes.copy(buffer, offset + 4);
	},
	(buffer, offset) => {
		const text = formatAddress(buffer, offset + 4);
		const length = buffer.readUInt32LE(offset);
		return `${text}/${text.includes(":") ? length : length - 96}`;
	},
);

/** Throws unless the array has the length of its C declaration. */
export function elements<T>(values: readonly T[], length: number, field: string): readonly T[] {
	if (values.length !== length)
		throw new Error(`Cannot encode ${field}: expected ${length} values, got ${values.length}`);
	return values;
}

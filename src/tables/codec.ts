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

/** The key of `frontends`: "ADDRESS PROTOCOL PORT", with numbers of protocols. */
export const frontendKey = codec<string>(
	ADDRESS_SIZE + 4,
	(buffer, offset, text) => {
		const [host = "", protocol, port] = text.split(" ");
		writeAddress(buffer, offset, host);
		buffer.writeUInt16BE(Number(port), offset + ADDRESS_SIZE);
		buffer.writeUInt8(Number(protocol), offset + ADDRESS_SIZE + 2);
	},
	(buffer, offset) => {
		const at = offset + ADDRESS_SIZE;
		return `${formatAddress(buffer, offset)} ${buffer.readUInt8(at + 2)} ${buffer.readUInt16BE(at)}`;
	},
);

/** The key of `service_ranges`: "SERVICE PREFIX", with the index of the Service. */
export const rangeKey = codec<string>(
	8 + ADDRESS_SIZE,
	(buffer, offset, text) => {
		const [service, range = ""] = text.split(" ");
		prefix.write(buffer, offset + 4, range);
		buffer.writeUInt32LE(buffer.readUInt32LE(offset + 4) + 32, offset);
		buffer.writeUInt32LE(Number(service), offset + 4);
	},
	(buffer, offset) => {
		const key = Buffer.from(buffer.subarray(offset + 4, offset + 8 + ADDRESS_SIZE));
		key.writeUInt32LE(buffer.readUInt32LE(offset) - 32, 0);
		return `${buffer.readUInt32LE(offset + 4)} ${prefix.decode(key)}`;
	},
);

/** The key of `policy_verdicts` as one number: policy * 2^32 + class. */
export const policyVerdictKey = codec<number>(
	8,
	(buffer, offset, key) => {
		buffer.writeUInt32LE(Math.floor(key / 2 ** 32), offset);
		buffer.writeUInt32LE(key % 2 ** 32, offset + 4);
	},
	(buffer, offset) => buffer.readUInt32LE(offset) * 2 ** 32 + buffer.readUInt32LE(offset + 4),
);

/** Throws unless the array has the length of its C declaration. */
export function elements<T>(values: readonly T[], length: number, field: string): readonly T[] {
	if (values.length !== length)
		throw new Error(`Cannot encode ${field}: expected ${length} values, got ${values.length}`);
	return values;
}

/**
 * Address text and the 16 bytes that every table holds: network order, IPv4 as ::ffff:a.b.c.d
 * (RFC 4291, 2.5.5.2). Text that is made here is canonical: dotted IPv4, RFC 5952 IPv6.
 */
import { isIPv4, isIPv6 } from "node:net";

export const ADDRESS_SIZE = 16;
export const MAC_SIZE = 6;

/** Where the IPv4 address starts in the 16 bytes. */
const MAPPED = 12;

/**
 * The 16 bytes of an address. Undefined for anything else: leading zeros, zone ids, white space,
 * and IPv4-mapped IPv6 text, which no packet carries and which would be a second name of an
 * IPv4 address.
 */
export function parseAddress(text: string): Buffer | undefined {
	const bytes = Buffer.alloc(ADDRESS_SIZE);
	return writeAddressText(bytes, 0, text) ? bytes : undefined;
}

/** Canonical text of the 16 bytes at `offset`. */
export function formatAddress(bytes: Uint8Array, offset = 0): string {
	if (bytes.length < offset + ADDRESS_SIZE)
		throw new Error(
			`Cannot format address: wanted ${ADDRESS_SIZE} bytes, there are ${bytes.length - offset}`,
		);
	if (isMapped(bytes, offset)) return bytes.subarray(offset + MAPPED, offset + 16).join(".");
	const groups = Array.from(
		{ length: 8 },
		(_, i) => ((bytes[offset + 2 * i] ?? 0) << 8) | (bytes[offset + 2 * i + 1] ?? 0),
	);
	// RFC 5952, 4.2: the longest run of two or more zero groups, the first of equals.
	let start = 0;
	let longest = 1;
	for (let i = 0; i < 8; i++) {
		let end = i;
		while (end < 8 && groups[end] === 0) end++;
		if (end - i > longest) {
			start = i;
			longest = end - i;
		}
		i = Math.max(i, end - 1);
	}
	const text = (part: number[]): string => part.map((group) => group.toString(16)).join(":");
	return longest < 2
		? text(groups)
		: `${text(groups.slice(0, start))}::${text(groups.slice(start + longest))}`;
}

/** The one text of an address. Undefined where parseAddress is. */
export function canonicalAddress(text: string): string | undefined {
	const bytes = parseAddress(text);
	return bytes && formatAddress(bytes);
}

/** Of address or prefix text that is known to be one. */
export function familyOf(text: string): 4 | 6 {
	return text.includes(":") ? 6 : 4;
}

/** True for 16 bytes that stand for an IPv4 address. */
export function isMapped(bytes: Uint8Array, offset = 0): boolean {
	for (let i = 0; i < 10; i++) if (bytes[offset + i] !== 0) return false;
	return bytes[offset + 10] === 0xff && bytes[offset + 11] === 0xff;
}

/** The address as a number: IPv4 of 32 bits, IPv6 of 128. */
export function addressToNumber(bytes: Uint8Array): bigint {
	const digits = Buffer.from(isMapped(bytes) ? bytes.subarray(MAPPED) : bytes).toString("hex");
	return BigInt(`0x${digits}`);
}

/** The 16 bytes of such a number. Throws when it does not fit the family. */
export function addressFromNumber(number: bigint, family: 4 | 6): Buffer {
	const bits = family === 4 ? 32 : 128;
	if (number < 0n || number >> BigInt(bits) !== 0n)
		throw new Error(`Cannot make an IPv${family} address: wanted ${bits} bits, it is ${number}`);
	const bytes = Buffer.from(number.toString(16).padStart(2 * ADDRESS_SIZE, "0"), "hex");
	if (family === 4) bytes.writeUInt16BE(0xffff, 10);
	return bytes;
}

/** Writes an address; "" is sixteen zero bytes, "none". Throws for text that is no address. */
export function writeAddress(buffer: Buffer, offset: number, text: string): void {
	if (text === "") buffer.fill(0, offset, offset + ADDRESS_SIZE);
	else if (!writeAddressText(buffer, offset, text))
		throw new Error(`Cannot encode address: wanted IPv4 or IPv6, it is ${JSON.stringify(text)}`);
}

/** Reads what writeAddress wrote. */
export function readAddress(buffer: Buffer, offset: number): string {
	for (let i = 0; i < ADDRESS_SIZE; i++)
		if (buffer[offset + i] !== 0) return formatAddress(buffer, offset);
	return "";
}

/** Writes "aa:bb:cc:dd:ee:ff". Throws for anything else. */
export function writeMac(buffer: Buffer, offset: number, text: string): void {
	if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text))
		throw new Error(`Cannot encode MAC: wanted aa:bb:cc:dd:ee:ff, it is ${JSON.stringify(text)}`);
	buffer.write(text.replaceAll(":", ""), offset, MAC_SIZE, "hex");
}

export function readMac(buffer: Buffer, offset: number): string {
	return Array.from(buffer.subarray(offset, offset + MAC_SIZE), (byte) =>
		byte.toString(16).padStart(2, "0"),
	).join(":");
}

/** False, with the bytes undefined, when the text is no address. */
function writeAddressText(bytes: Buffer, offset: number, text: string): boolean {
	if (isIPv4(text)) {
		bytes.fill(0, offset, offset + 10);
		bytes.writeUInt16BE(0xffff, offset + 10);
		writeDotted(bytes, offset + MAPPED, text);
		return true;
	}
	if (!isIPv6(text) || text.includes("%")) return false;
	bytes.fill(0, offset, offset + ADDRESS_SIZE);
	const [head = "", tail = ""] = text.split("::");
	writeGroups(bytes, offset, head.split(":"));
	const last = tail.split(":");
	const width = last.reduce((sum, group) => sum + (group.includes(".") ? 4 : 2), 0);
	if (tail !== "") writeGroups(bytes, offset + ADDRESS_SIZE - width, last);
	return !isMapped(bytes, offset);
}

function writeGroups(bytes: Buffer, offset: number, groups: string[]): void {
	for (const group of groups) {
		if (group === "") continue;
		if (group.includes(".")) {
			writeDotted(bytes, offset, group);
			offset += 4;
		} else {
			bytes.writeUInt16BE(Number.parseInt(group, 16), offset);
			offset += 2;
		}
	}
}

function writeDotted(bytes: Buffer, offset: number, text: string): void {
	for (const part of text.split(".")) bytes[offset++] = Number(part);
}

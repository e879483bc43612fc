/**
 * Certificates for tests, written in DER by hand: Node.js can sign, but has no way to make a certificate,
 * and a test that runs in a second should start no other program.
 */
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { parseAddress } from "../../../src/tables/address.js";

export interface Issued {
	/** PEM. */
	certificate: string;
	key: string;
}

export class Authority {
	readonly certificate: string;
	readonly #name: string;
	readonly #key: KeyObject;
	#serial = 1;

	constructor(name = "test-ca") {
		this.#name = name;
		const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
		this.#key = privateKey;
		this.certificate = this.#sign(name, publicKey, [
			// basicConstraints: an authority; keyUsage: keyCertSign.
			extension("551d13", sequence(tlv(0x01, Buffer.from([0xff]))), true),
			extension("551d0f", tlv(0x03, Buffer.from([2, 0x04])), true),
		]);
	}

	/**
	 * @param names DNS names and addresses that a server has
	 * @param organization of a client: its group
	 */
	issue(commonName: string, names: readonly string[] = [], organization?: string): Issued {
		const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
		const alternatives = names.map((name) => {
			const bytes = parseAddress(name);
			if (bytes === undefined) return tlv(0x82, Buffer.from(name));
			const v4 = !name.includes(":");
			return tlv(0x87, Buffer.from(v4 ? bytes.subarray(12) : bytes));
		});
		const extensions = names.length === 0 ? [] : [extension("551d11", sequence(...alternatives))];
		return {
			certificate: this.#sign(commonName, publicKey, extensions, organization),
			key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
		};
	}

	#sign(
		subject: string,
		publicKey: KeyObject,
		extensions: Buffer[],
		organization?: string,
	): string {
		const ecdsaWithSha256 = sequence(objectId("2a8648ce3d040302"));
		const body = sequence(
			tlv(0xa0, integer(2)),
			integer(this.#serial++),
			ecdsaWithSha256,
			distinguishedName(this.#name),
			// Far around now, whatever the machine's clock.
			sequence(tlv(0x17, Buffer.from("200101000000Z")), tlv(0x18, Buffer.from("21200101000000Z"))),
			distinguishedName(subject, organization),
			publicKey.export({ type: "spki", format: "der" }),
			...(extensions.length === 0 ? [] : [tlv(0xa3, sequence(...extensions))]),
		);
		const signature = sign("sha256", body, this.#key);
		const der = sequence(body, ecdsaWithSha256, tlv(0x03, Buffer.concat([ZERO, signature])));
		const base64 = der.toString("base64").replace(/.{64}/g, "$&\n");
		return `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`;
	}

	/** Of the certificate, to tell two apart. */
	get fingerprint(): string {
		return createHash("sha256").update(this.certificate).digest("hex");
	}
}

const ZERO = Buffer.from([0]);

function tlv(tag: number, content: Buffer): Buffer {
	const { length } = content;
	const size =
		length < 0x80
			? Buffer.from([length])
			: length < 0x100
				? Buffer.from([0x81, length])
				: Buffer.from([0x82, length >> 8, length & 0xff]);
	return Buffer.concat([Buffer.from([tag]), size, content]);
}

function sequence(...parts: Buffer[]): Buffer {
	return tlv(0x30, Buffer.concat(parts));
}

function integer(value: number): Buffer {
	return tlv(0x02, Buffer.from([value & 0x7f]));
}

function objectId(hex: string): Buffer {
	return tlv(0x06, Buffer.from(hex, "hex"));
}

function distinguishedName(commonName: string, organization?: string): Buffer {
	const part = (oid: string, text: string) =>
		tlv(0x31, sequence(objectId(oid), tlv(0x0c, Buffer.from(text))));
	const group = organization === undefined ? [] : [part("55040a", organization)];
	return sequence(...group, part("550403", commonName));
}

function extension(oid: string, value: Buffer, critical = false): Buffer {
	const flag = critical ? [tlv(0x01, Buffer.from([0xff]))] : [];
	return sequence(objectId(oid), ...flag, tlv(0x04, value));
}

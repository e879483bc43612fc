/** Reads a ServiceCIDR: ranges from which Services get their cluster IPs. */
import { readPrefix } from "../tables/prefix.js";
import { Fault, listOf, type Mapping, mapping, nameOf, show, uidOf } from "./fields.js";

export interface ServiceCidrObject {
	name: string;
	uid?: string;
	/** Canonical. */
	cidrs: readonly string[];
}

/** @throws Fault */
export function readServiceCidr(object: Mapping): ServiceCidrObject {
	const cidrs = listOf(mapping(object.spec).cidrs, "spec.cidrs").map((value, i) => {
		const read = readPrefix(typeof value === "string" ? value : "");
		if (!("prefix" in read))
			throw new Fault(`expected ${read.wanted} as spec.cidrs[${i}], got ${show(value)}`);
		if (read.prefix.length === 0)
			throw new Fault(`expected a part of all addresses as spec.cidrs[${i}], got ${show(value)}`);
		return read.prefix.text;
	});
	const uid = uidOf(object);
	return { name: nameOf(object), ...(uid === undefined ? {} : { uid }), cidrs };
}

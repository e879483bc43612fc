/** Reads a Namespace: its labels, by which policies select. */
import { type Mapping, mapping, nameOf, uidOf } from "./fields.js";
import { intern, type Labels, readLabels } from "./labels.js";
import { isAudited } from "./policy_fields.js";

export interface NamespaceObject {
	name: string;
	uid?: string;
	/** With `kubernetes.io/metadata.name`, as the API server sets it. */
	labels: Labels;
	/** Its NetworkPolicies are staged. */
	audit: boolean;
}

export const NAME_LABEL = "kubernetes.io/metadata.name";

/** @throws Fault */
export function readNamespace(object: Mapping): NamespaceObject {
	const metadata = mapping(object.metadata);
	const name = intern(nameOf(object));
	const uid = uidOf(object);
	return {
		name,
		...(uid === undefined ? {} : { uid }),
		labels: readLabels({ ...mapping(metadata.labels), [NAME_LABEL]: name }),
		audit: isAudited(metadata),
	};
}

/** One that only others name: it exists, and has the label that each has. */
export function impliedNamespace(name: string): NamespaceObject {
	return { name, labels: [NAME_LABEL, name], audit: false };
}

/**
 * Warnings about policies before they are applied: policies that cannot be used, fields that mean
 * nothing, selectors that match nothing, rules without effect, isolation without DNS. Pure.
 */
import type { ClusterPolicyObject } from "../cluster/cluster_policy_object.js";
import { type Mapping, mapping } from "../cluster/fields.js";
import { kindOf, readObject } from "../cluster/kinds.js";
import { impliedNamespace } from "../cluster/namespace_object.js";
import type { NetworkPolicyObject } from "../cluster/network_policy_object.js";
import { AUDIT_ANNOTATION, blockOf, type PolicyPort } from "../cluster/policy_fields.js";
import { matches, type Selector, selectorText } from "../cluster/selector.js";
import { contains } from "../tables/prefix.js";
import type { Cluster } from "./interpreter.js";

export interface Finding {
	/** "NetworkPolicy default/web", "ClusterNetworkPolicy baseline" */
	policy: string;
	kind: "unusable" | "unknownField" | "selectsNothing" | "noEffect" | "noDns";
	/** "spec.ingress[0].from[1]"; "": the policy as a whole. */
	where: string;
	message: string;
}

/** What an API object may have; lists are as their items, null may have anything. */
type Shape = { readonly [field: string]: Shape | null };

const SELECTOR: Shape = {
	matchLabels: null,
	matchExpressions: { key: null, operator: null, values: null },
};
const HEAD: Shape = { apiVersion: null, kind: null, metadata: null, status: null };
const PEER: Shape = {
	podSelector: SELECTOR,
	namespaceSelector: SELECTOR,
	ipBlock: { cidr: null, except: null },
};
const PORT: Shape = { protocol: null, port: null, endPort: null };
const NETWORK_POLICY: Shape = {
	...HEAD,
	spec: {
		...{ podSelector: SELECTOR, policyTypes: null },
		...{ ingress: { from: PEER, ports: PORT }, egress: { to: PEER, ports: PORT } },
	},
};
const PODS: Shape = {
	namespaces: SELECTOR,
	pods: { namespaceSelector: SELECTOR, podSelector: SELECTOR },
};
const PORTS: Shape = { destinationPort: { number: null, range: { start: null, end: null } } };
const RULE: Shape = {
	...{ name: null, action: null },
	protocols: { tcp: PORTS, udp: PORTS, sctp: PORTS, destinationNamedPort: null },
};
const CLUSTER_POLICY: Shape = {
	...HEAD,
	spec: {
		...{ tier: null, priority: null, subject: PODS, ingress: { ...RULE, from: PODS } },
		egress: { ...RULE, to: { ...PODS, nodes: SELECTOR, networks: null, domainNames: null } },
	},
};

/**
 * @param objects API objects of any kind; those that are no policies are left alone
 * @param cluster the Pods and Namespaces that selectors are tried on; without Pods none is
 */
export function checkPolicies(objects: readonly unknown[], cluster: Cluster): Finding[] {
	return objects.flatMap((object) => {
		const given = mapping(object);
		const kind = kindOf(given);
		if (kind !== "NetworkPolicy" && kind !== "ClusterNetworkPolicy") return otherVersion(given);
		const shape = kind === "NetworkPolicy" ? NETWORK_POLICY : CLUSTER_POLICY;
		const reading = readObject(kind, given);
		const policy = `${kind} ${reading.key}`;
		const unknown = unknownFields(given, shape, "").map(
			(where): Finding => ({
				policy,
				kind: "unknownField",
				where,
				message: "this field means nothing",
			}),
		);
		if ("fault" in reading)
			return [{ policy, kind: "unusable", where: "", message: reading.fault }, ...unknown];
		if (!("record" in reading)) return unknown;
		const found =
			reading.kind === "NetworkPolicy"
				? checkNetworkPolicy(reading.record, given, cluster)
				: checkClusterPolicy(reading.record as ClusterPolicyObject, cluster);
		found.push(...auditOf(given));
		return [...unknown, ...found.map((one) => ({ policy, ...one }))];
	});
}

const VERSIONS: Readonly<Record<string, string>> = {
	NetworkPolicy: "networking.k8s.io/v1",
	ClusterNetworkPolicy: "policy.networking.k8s.io/v1beta1 or policy.networking.k8s.io/v1alpha2",
	AdminNetworkPolicy: "",
	BaselineAdminNetworkPolicy: "",
};

/** A policy of an API version that Fairway does not read. */
function otherVersion({ kind, apiVersion, metadata }: Mapping): Finding[] {
	if (typeof kind !== "string" || !Object.hasOwn(VERSIONS, kind)) return [];
	const group = String(apiVersion ?? "");
	// Calico and Antrea have kinds of the same names.
	if (!/^(networking\.k8s\.io|policy\.networking\.k8s\.io|extensions)\//.test(group)) return [];
	const { namespace, name } = mapping(metadata);
	const policy = `${kind} ${[namespace, name].filter((one) => typeof one === "string").join("/")}`;
	const known = VERSIONS[kind];
	const message =
		known === ""
			? "expected a ClusterNetworkPolicy, which has replaced this kind"
			: `expected ${known} as apiVersion, got ${group}`;
	return [{ policy, kind: "unusable", where: "", message }];
}

/** Whoever means to stage a policy must not enforce it by a slip. */
function auditOf({ metadata }: Mapping): Found[] {
	const value = mapping(mapping(metadata).annotations)[AUDIT_ANNOTATION];
	if (value === undefined || value === "true" || value === "false") return [];
	return [
		{
			...{ kind: "noEffect", where: `metadata.annotations["${AUDIT_ANNOTATION}"]` },
			message: `only "true" stages a policy, so with ${JSON.stringify(value)} it is enforced`,
		},
	];
}

type Found = Omit<Finding, "policy">;

function checkNetworkPolicy(
	policy: NetworkPolicyObject,
	object: Mapping,
	cluster: Cluster,
): Found[] {
	const found: Found[] = [];
	const { namespace } = policy;
	if (selectsNone(cluster, namespace, undefined, policy.pods))
		found.push(nothing("spec.podSelector", `no Pod of namespace ${namespace}`));
	for (const direction of ["ingress", "egress"] as const) {
		const said = mapping(object.spec)[direction];
		if (policy[direction] === undefined && Array.isArray(said) && said.length > 0)
			found.push({
				...{ kind: "noEffect", where: `spec.${direction}` },
				message: `spec.policyTypes does not name ${direction === "ingress" ? "Ingress" : "Egress"}, so these rules are ignored`,
			});
		const rules = policy[direction] ?? [];
		const side = direction === "ingress" ? "from" : "to";
		for (const [i, { peers }] of rules.entries())
			for (const [j, peer] of (peers ?? []).entries())
				if (!("block" in peer) && selectsNone(cluster, namespace, peer.namespaces, peer.pods))
					found.push(nothing(`spec.${direction}[${i}].${side}[${j}]`, "no Pod"));
		found.push(...withoutEffect(rules.map(asRule), direction, false));
	}
	const { egress } = policy;
	if (egress !== undefined && !egress.some(({ ports }) => ports === undefined || ports.some(isDns)))
		found.push({
			...{ kind: "noDns", where: "spec.egress" },
			message:
				"it isolates for egress and allows no DNS (UDP port 53): without another policy its Pods cannot resolve names",
		});
	return found;
}

function checkClusterPolicy(policy: ClusterPolicyObject, cluster: Cluster): Found[] {
	const found: Found[] = [];
	const { namespaces, pods } = policy.subject;
	if (selectsNone(cluster, "", namespaces, pods)) found.push(nothing("spec.subject", "no Pod"));
	if (policy.ingress.length + policy.egress.length === 0)
		found.push({ kind: "noEffect", where: "spec", message: "it has no rules" });
	for (const direction of ["ingress", "egress"] as const) {
		const side = direction === "ingress" ? "from" : "to";
		for (const [i, rule] of policy[direction].entries()) {
			if (rule.isUnknown)
				found.push({
					...{ kind: "noEffect", where: `spec.${direction}[${i}]` },
					message: `it has a peer or protocol that is not known here: it ${rule.action === "Accept" ? "matches nothing" : "denies everything"}`,
				});
			for (const [j, peer] of rule.peers.entries())
				if ("pods" in peer && selectsNone(cluster, "", peer.namespaces, peer.pods))
					found.push(nothing(`spec.${direction}[${i}].${side}[${j}]`, "no Pod"));
		}
		const known = policy[direction].map((rule) => (rule.isUnknown ? undefined : asRule(rule)));
		found.push(...withoutEffect(known, direction, true));
	}
	return found;
}

function nothing(where: string, what: string): Found {
	return { kind: "selectsNothing", where, message: `${what} matches` };
}

/** Never where no Pods are known. @param namespaces undefined: the namespace itself */
function selectsNone(
	{ pods, namespaces: known }: Cluster,
	namespace: string,
	namespaces: Selector | undefined,
	selector: Selector,
): boolean {
	const labelsOf = (name: string) =>
		(known.find((one) => one.name === name) ?? impliedNamespace(name)).labels;
	return (
		pods.length > 0 &&
		!pods.some(
			(pod) =>
				!pod.hostNetwork &&
				(namespaces === undefined
					? pod.namespace === namespace
					: matches(namespaces, labelsOf(pod.namespace))) &&
				matches(selector, pod.labels),
		)
	);
}

function isDns(port: PolicyPort): boolean {
	if ("name" in port) return /dns/i.test(port.name) && port.protocol !== 6;
	return port.protocol === 17 && port.first <= 53 && 53 <= port.last;
}

// ------------------------------------------------------------ rules that others cover

interface Peers {
	/** Undefined: everything. */
	peers: readonly object[] | undefined;
	ports: readonly PolicyPort[] | undefined;
}

function asRule({ peers, ports }: Peers): Peers {
	return { peers, ports };
}

/** @param ordered only an earlier rule takes another's packets */
function withoutEffect(
	rules: readonly (Peers | undefined)[],
	direction: string,
	ordered: boolean,
): Found[] {
	return rules.flatMap((rule, i): Found[] => {
		if (rule === undefined) return [];
		const by = rules.findIndex((other, j) => {
			if (other === undefined || i === j || !covers(other, rule)) return false;
			return j < i || (!ordered && !covers(rule, other));
		});
		if (by < 0) return [];
		const message = `spec.${direction}[${by}] already says all of it`;
		return [{ kind: "noEffect", where: `spec.${direction}[${i}]`, message }];
	});
}

function covers(wide: Peers, narrow: Peers): boolean {
	const peers =
		wide.peers === undefined ||
		narrow.peers?.every((one) => wide.peers?.some((other) => coversPeer(other, one)));
	const ports =
		wide.ports === undefined ||
		narrow.ports?.every((one) => wide.ports?.some((other) => coversPort(other, one)));
	return peers === true && ports === true;
}

function coversPeer(wide: object, narrow: object): boolean {
	const [a, b] = [wide as Mapping, narrow as Mapping];
	const within = (outer: unknown, inner: unknown) =>
		contains(blockOf(String(outer)), blockOf(String(inner)));
	if (a.networks !== undefined || b.networks !== undefined)
		return (
			(b.networks as string[] | undefined)?.every((inner) =>
				(a.networks as string[] | undefined)?.some((outer) => within(outer, inner)),
			) === true
		);
	if (a.block !== undefined || b.block !== undefined) {
		if (a.block === undefined || b.block === undefined || !within(a.block, b.block)) return false;
		const except = b.except as string[];
		return (a.except as string[]).every((one) => except.some((other) => within(other, one)));
	}
	const same = (name: string) => {
		const [outer, inner] = [a[name] as Selector | undefined, b[name] as Selector | undefined];
		if (outer === undefined || inner === undefined) return outer === inner;
		return outer.length === 0 || selectorText(outer) === selectorText(inner);
	};
	return same("nodes") && same("namespaces") && same("pods");
}

function coversPort(wide: PolicyPort, narrow: PolicyPort): boolean {
	if ("name" in wide || "name" in narrow)
		return (
			"name" in wide &&
			"name" in narrow &&
			wide.name === narrow.name &&
			(wide.protocol ?? narrow.protocol) === narrow.protocol
		);
	return (
		wide.protocol === narrow.protocol && wide.first <= narrow.first && narrow.last <= wide.last
	);
}

// ------------------------------------------------------------ unknown fields

function unknownFields(value: unknown, shape: Shape | null, where: string): string[] {
	if (shape === null || typeof value !== "object" || value === null) return [];
	if (Array.isArray(value))
		return value.flatMap((item, i) => unknownFields(item, shape, `${where}[${i}]`));
	return Object.entries(value).flatMap(([field, inner]) => {
		const path = where === "" ? field : `${where}.${field}`;
		return Object.hasOwn(shape, field) ? unknownFields(inner, shape[field]!, path) : [path];
	});
}

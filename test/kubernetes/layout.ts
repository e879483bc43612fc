/**
 * What the cluster consists of: names, addresses and folders.
 *
 *   n1 192.168.71.11   n2 192.168.71.12      n3 192.168.72.13
 *      fd00:71::11        fd00:71::12           fd00:72::13
 *       └────── bridge 71 ─────┘                  │ bridge 72
 *             192.168.71.1 ── router ── 192.168.72.1
 *
 * The network namespace of n1 has the control plane as well. Every Node's default route is the router.
 */
import { join } from "node:path";
import { Namespace } from "../../src/lab/namespace.js";
import { root } from "../../src/lab/repository.js";

export interface NodePlan {
	name: string;
	subnet: 71 | 72;
	v4: string;
	v6: string;
	/** False: neither bpffs is mounted nor are there reference plugins, as on a Node fresh from its image. */
	prepared: boolean;
	namespace: Namespace;
}

/** All namespaces and cgroups have this prefix, so a later run recognizes what a killed one left. */
export const PREFIX = "fairway-k8s-";

const plan = (name: string, subnet: 71 | 72, host: number, prepared = true): NodePlan => ({
	name,
	subnet,
	v4: `192.168.${subnet}.${host}`,
	v6: `fd00:${subnet}::${host}`,
	prepared,
	namespace: new Namespace(`${PREFIX}${name}`),
});

export const nodePlans: readonly NodePlan[] = [
	plan("n1", 71, 11),
	plan("n2", 71, 12),
	plan("n3", 72, 13, false),
];
export const subnets = [71, 72] as const;
export const router = new Namespace(`${PREFIX}router`);
export const controlPlane = nodePlans[0]!;

export function planOf(name: string): NodePlan {
	const found = nodePlans.find((one) => one.name === name);
	if (found === undefined)
		throw new Error(
			`Cannot find the Node ${name}: expected one of ${nodePlans.map((one) => one.name).join(", ")}.`,
		);
	return found;
}

/** The cluster's first family: that of a Service which asks for none. */
export const firstFamily: 4 | 6 = process.env.FIRST_FAMILY === "6" ? 6 : 4;
/** IPv4 and IPv6 → first family first. */
export const inOrder = <T>(v4: T, v6: T): readonly [T, T] =>
	firstFamily === 4 ? [v4, v6] : [v6, v4];
/** First family first. */
export const podCIDRs = inOrder("10.244.0.0/16", "fd00:10:244::/56");
export const serviceCIDRs = inOrder("10.96.0.0/16", "fd00:10:96::/112");
/** The Service of CoreDNS. */
export const dnsAddress = firstFamily === 4 ? "10.96.0.10" : "fd00:10:96::a";
/** Texts of addresses or CIDRs, IPv4 first. */
export const ipv4First = (texts: readonly string[]): string[] =>
	texts.toSorted((a, b) => Number(a.includes(":")) - Number(b.includes(":")));
/** The router gives load balancers addresses of these ranges, and routes them to Nodes. */
export const balancerCIDRs = ["192.168.90.0/24", "fd00:90::/64"] as const;
export const apiServer = `https://${controlPlane.v4}:6443`;

const build = join(root, "build/kubernetes");
export const folders = {
	source: join(root, "test/kubernetes"),
	bin: join(build, "bin"),
	images: join(build, "images"),
	/** Everything that one run makes: removed at its end, but for the logs. */
	run: join(build, "run"),
	pki: join(build, "run/pki"),
	logs: join(build, "logs"),
	results: join(build, "results"),
} as const;

export const program = (name: string): string => join(folders.bin, name);

/** Fills an API server with a cluster through its etcd, and keeps it busy as kubelets and controllers do. */
import { setTimeout as delay } from "node:timers/promises";
import { until } from "../../src/lab/until.js";
import type { ApiUser } from "../../test/kubernetes/api_alone.js";
import type { Etcd, StoredObject } from "./etcd.js";
import {
	NAMESPACES,
	namespace,
	namespaceName,
	networkPolicy,
	node,
	nodeName,
	pod,
	podOf,
	podPath,
	podStatus,
	podsPath,
	policiesPath,
	policyOf,
	status,
} from "./kube_objects.js";

/** More of them than a server that is not overloaded needs for them. */
const PATIENCE_MS = 120_000;

interface Resource {
	/** Of all its objects, at the API. */
	path: string;
	/** Of the object with that number: the path that it is posted to, its own, the key in etcd, itself. */
	of: (i: number) => { posted: string; path: string; key: string; object: object };
}

/**
 * Makes the objects with these numbers: the last one through the API server, the others after its example. Resolves
 * when the server has all of them.
 *
 * @throws Error when one is not taken
 */
async function add(site: Loaded, resource: Resource, from: number, to: number): Promise<void> {
	const { user, etcd } = site;
	const last = resource.of(to - 1);
	const { status } = last.object as { status?: object };
	await done(user, "POST", last.posted, last.object, 201);
	// As a kubelet does: a Pod's status is not taken with the Pod.
	if (status !== undefined) await done(user, "PATCH", `${last.path}/status`, { status }, 200);
	const before = await count(user, resource.path);
	const made = (await user.read(last.path)) as StoredObject;
	await etcd.add(to - 1 - from, made, (i) => resource.of(from + i));
	const all = before + to - 1 - from;
	await until(
		`${all} objects at ${resource.path}`,
		async () => (await count(user, resource.path)) === all,
		PATIENCE_MS,
	);
}

async function done(
	user: ApiUser,
	method: "POST" | "PATCH",
	path: string,
	body: object,
	status: number,
): Promise<void> {
	const got = await user.ask(method, path, body);
	if (got !== status)
		throw new Error(`Cannot ${method} ${path}: expected status ${status}, got ${got}`);
}

async function count(user: ApiUser, path: string): Promise<number> {
	const { items, metadata } = (await user.read(`${path}?limit=1`)) as {
		items: unknown[];
		metadata: { remainingItemCount?: number };
	};
	return items.length + (metadata.remainingItemCount ?? 0);
}

/** An API server and its etcd. */
export interface Loaded {
	user: ApiUser;
	etcd: Etcd;
}

export function addNodes(site: Loaded, from: number, to: number): Promise<void> {
	const path = "/api/v1/nodes";
	return add(
		site,
		{
			path,
			of: (i) => ({
				...{ posted: path, path: `${path}/${nodeName(i)}` },
				// Their name in the API's first months.
				...{ key: `minions/${nodeName(i)}`, object: node(i) },
			}),
		},
		from,
		to,
	);
}

export function addNamespaces(site: Loaded): Promise<void> {
	const path = "/api/v1/namespaces";
	return add(
		site,
		{
			path,
			of: (i) => ({
				...{ posted: path, path: `${path}/${namespaceName(i)}` },
				...{ key: `namespaces/${namespaceName(i)}`, object: namespace(i) },
			}),
		},
		0,
		NAMESPACES,
	);
}

/** The first `here` Pods are Node 0's and have no addresses, the others run on the other Nodes. */
export function addPods(site: Loaded, count: number, nodes: number, here: number): Promise<void> {
	const of = (i: number) => {
		const object =
			i < here
				? pod(i, 0)
				: {
						...pod(i, nodeOf(i, nodes)),
						status: podStatus(nodeOf(i, nodes), Math.floor(i / (nodes - 1))),
					};
		const { namespace, name } = podOf(i);
		return { posted: podsPath(i), path: podPath(i), key: `pods/${namespace}/${name}`, object };
	};
	return add(site, { path: "/api/v1/pods", of }, 0, count);
}

function nodeOf(i: number, nodes: number): number {
	return 1 + (i % (nodes - 1));
}

export function addPolicies(site: Loaded, count: number): Promise<void> {
	const of = (i: number) => {
		const posted = policiesPath(i);
		const { namespace, name } = policyOf(i);
		return {
			...{ posted, path: `${posted}/${name}` },
			...{ key: `networkpolicies/${namespace}/${name}`, object: networkPolicy(i) },
		};
	};
	return add(site, { path: "/apis/networking.k8s.io/v1/networkpolicies", of }, 0, count);
}

export interface Rates {
	heartbeats: number;
	pods: number;
}

/** Heartbeats and changes of Pods, as many a second, until `stop`. */
export class Churn {
	readonly #user: ApiUser;
	#stopped = false;
	readonly #running: Promise<unknown>;
	#late = 0;
	#sent = 0;

	/** Among so many Nodes and Pods; Node 0 and the first Pods are left alone. */
	constructor(user: ApiUser, rates: Rates, nodes: number, pods: { from: number; to: number }) {
		this.#user = user;
		this.#running = Promise.all([
			this.#each(rates.heartbeats, (n) => {
				const i = 1 + ((n * 7) % (nodes - 1));
				return this.#patch(`/api/v1/nodes/${nodeName(i)}/status`, {
					status: { conditions: status(i, 0, n).conditions },
				});
			}),
			this.#each(rates.pods, (n) => {
				const i = pods.from + ((n * 31) % (pods.to - pods.from));
				return this.#patch(podPath(i), {
					metadata: { annotations: { "example/revision": `${n}` } },
				});
			}),
		]);
	}

	/** Returns how many of the requests asked for were made. */
	async stop(): Promise<number> {
		this.#stopped = true;
		await this.#running;
		return this.#sent / (this.#sent + this.#late);
	}

	async #each(rate: number, act: (n: number) => Promise<void>): Promise<void> {
		if (rate === 0) return;
		const began = performance.now();
		const underway = new Set<Promise<void>>();
		for (let n = 0; !this.#stopped; n++) {
			await delay(Math.max(0, began + (n * 1000) / rate - performance.now()));
			if (underway.size >= rate) {
				// A second behind.
				this.#late++;
				continue;
			}
			const one = act(n).finally(() => underway.delete(one));
			underway.add(one);
			this.#sent++;
		}
		await Promise.all(underway);
	}

	async #patch(path: string, body: object): Promise<void> {
		const got = await this.#user.ask("PATCH", path, body);
		if (got !== 200) throw new Error(`Cannot change ${path}: expected status 200, got ${got}`);
	}
}

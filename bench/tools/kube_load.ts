/** Fills an API server with a cluster, and keeps it busy as kubelets and controllers do. */
import { setTimeout as delay } from "node:timers/promises";
import type { ApiUser } from "../../test/kubernetes/api_alone.js";
import {
	NAMESPACES,
	namespace,
	networkPolicy,
	node,
	nodeName,
	pod,
	podPath,
	podStatus,
	podsPath,
	policiesPath,
	status,
} from "./kube_objects.js";

/** Requests under way: more only wait in the server. */
const AT_ONCE = 64;
const DONE = { POST: 201, PATCH: 200 };

/** Makes requests, many at once. @throws Error when the server does not take one */
async function request(
	user: ApiUser,
	method: keyof typeof DONE,
	count: number,
	what: (i: number) => { path: string; body: object },
): Promise<void> {
	let next = 0;
	const work = async (): Promise<void> => {
		while (next < count) {
			const { path, body } = what(next++);
			const got = await user.ask(method, path, body);
			if (got !== DONE[method])
				throw new Error(`Cannot ${method} ${path}: expected status ${DONE[method]}, got ${got}`);
		}
	};
	await Promise.all(Array.from({ length: AT_ONCE }, work));
}

export function addNodes(user: ApiUser, from: number, to: number): Promise<void> {
	return request(user, "POST", to - from, (i) => ({ path: "/api/v1/nodes", body: node(from + i) }));
}

export function addNamespaces(user: ApiUser): Promise<void> {
	return request(user, "POST", NAMESPACES, (i) => ({
		path: "/api/v1/namespaces",
		body: namespace(i),
	}));
}

/** The first `here` Pods are Node 0's, the others spread over the others. */
export function addPods(user: ApiUser, count: number, nodes: number, here: number): Promise<void> {
	return request(user, "POST", count, (i) => ({
		path: podsPath(i),
		body: pod(i, nodeOf(i, nodes, here)),
	}));
}

/** The Node of a Pod, if the first `here` are Node 0's. */
function nodeOf(i: number, nodes: number, here: number): number {
	return i < here ? 0 : 1 + (i % (nodes - 1));
}

/** Gives all but the first `here` Pods their addresses. */
export function runPods(user: ApiUser, count: number, nodes: number, here: number): Promise<void> {
	return request(user, "PATCH", count - here, (n) => {
		const i = here + n;
		const status = podStatus(nodeOf(i, nodes, here), Math.floor(i / (nodes - 1)));
		return { path: `${podPath(i)}/status`, body: { status } };
	});
}

export function addPolicies(user: ApiUser, count: number): Promise<void> {
	return request(user, "POST", count, (i) => ({
		path: policiesPath(i),
		body: networkPolicy(i),
	}));
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

/**
 * The agent's writes to the API. They help operators and the scheduler; forwarding does not depend on them. A refused
 * write is reported as one problem and retried later.
 *
 *  1. the start-up taint `fairway.dev/agent-not-ready` is removed from this Node when packets flow
 *  2. the condition NetworkUnavailable is cleared, if it is set and the mode needs no cloud routes
 *  3. Events of path changes (path_notices.ts), of Pods whose requests are not served, and of objects that cannot be
 *     used (object_notices.ts)
 */
import { randomBytes } from "node:crypto";
import { listOf, mapping } from "../cluster/fields.js";
import type { ObjectNotice, PathNotice, PodName, Reporter } from "../cluster/reporter.js";
import { type ApiFailure, failureOf, readJson } from "./answers.js";
import type { Answer, ApiClient, Call } from "./api_client.js";
import { type Clock, sleep } from "./clock.js";
import { ObjectNotices } from "./object_notices.js";
import { type NoticeEvent, PathNotices } from "./path_notices.js";

export const TAINT = "fairway.dev/agent-not-ready";

/** Between two looks at this Node: taints and conditions come with a Node that registers anew. */
const LOOK_MS = 60_000;
const RETRY_MS = 10_000;
/** Set by the route controller, which knows whether there are routes. */
const ROUTE_REASONS = new Set(["RouteCreated", "NoRouteCreated"]);
/** Most Events being written; more are dropped, since they would be old when they arrive. */
const WAITING_MAX = 20;
/** Most Events of Pods in POD_EVENTS_MS: tenants write the annotations that cause them. */
const POD_EVENTS_MAX = 10;
const POD_EVENTS_MS = 60_000;

/** What an Event is about. */
interface Regarding {
	apiVersion: string;
	kind: string;
	name: string;
	namespace?: string;
	uid?: string;
}

export interface KubernetesReporterOptions {
	client: Pick<ApiClient, "send">;
	nodeName: string;
	clock: Clock;
	/** `problems` has changed. */
	onChange: () => void;
	/** Epoch, ms; default: of this machine. */
	date?: () => Date;
}

export class KubernetesReporter implements Reporter {
	readonly #options: KubernetesReporterOptions;
	readonly #ended = new AbortController();
	readonly #notices: PathNotices;
	readonly #objects: ObjectNotices;
	readonly #problems = new Map<string, string>();
	#tunnelled = false;
	#looking: Promise<void> | undefined;
	/** Ends the pause between two looks. */
	#again = new AbortController();
	#waiting = 0;
	/** When Events of Pods were written, not longer ago than POD_EVENTS_MS. */
	#podEvents: number[] = [];

	constructor(options: KubernetesReporterOptions) {
		this.#options = options;
		// As kubelet's, whose Events of a Node have its name as uid.
		const { nodeName: name } = options;
		const node = { apiVersion: "v1", kind: "Node", name, uid: name };
		this.#notices = new PathNotices(
			options.clock,
			(event) => void this.#write(event, "ChangePath", node),
		);
		this.#objects = new ObjectNotices(options.clock, name, ({ object, reason, note }) => {
			void this.#write({ type: "Warning", reason, note }, "UseObject", object);
		});
	}

	get problems(): string[] {
		return [...this.#problems.values()];
	}

	ready(tunnelled: boolean): void {
		const changed = tunnelled !== this.#tunnelled;
		this.#tunnelled = tunnelled;
		this.#looking ??= this.#look();
		if (changed) this.#again.abort();
	}

	pathsChanged(notices: readonly PathNotice[]): void {
		this.#notices.add(notices);
	}

	objectsRefused(notices: readonly ObjectNotice[], nodes: readonly string[]): void {
		this.#objects.update(notices, nodes);
	}

	bandwidthUnlimited({ namespace, name, uid }: PodName): void {
		const now = this.#options.clock.now();
		this.#podEvents = this.#podEvents.filter((at) => now - at < POD_EVENTS_MS);
		if (this.#podEvents.length >= POD_EVENTS_MAX) return;
		this.#podEvents.push(now);
		const pod = { apiVersion: "v1", kind: "Pod", namespace, name, ...(uid && { uid }) };
		void this.#write(
			{
				type: "Warning",
				reason: "BandwidthUnlimited",
				note: "Fairway does not limit bandwidth: the annotations kubernetes.io/ingress-bandwidth and kubernetes.io/egress-bandwidth have no effect",
			},
			"AttachPod",
			pod,
		);
	}

	async close(): Promise<void> {
		this.#notices.close();
		this.#objects.close();
		this.#ended.abort(new Error("the agent is stopping"));
		await this.#looking;
	}

	// ------------------------------------------------------------ this Node

	async #look(): Promise<void> {
		const { signal } = this.#ended;
		while (!signal.aborted) {
			let pause = LOOK_MS;
			this.#again = new AbortController();
			try {
				await this.#mendNode();
			} catch {
				// The watches report failures of the network.
				pause = RETRY_MS;
			}
			const ended = AbortSignal.any([signal, this.#again.signal]);
			await sleep(this.#options.clock, pause, ended);
		}
	}

	async #mendNode(): Promise<void> {
		const path = `/api/v1/nodes/${this.#options.nodeName}`;
		const answer = await this.#send({ path });
		if (answer.status !== 200) {
			this.#note("node", `Cannot read this Node`, await failureOf(answer));
			return;
		}
		const node = mapping(await readJson(answer));
		this.#note("node");
		await this.#removeTaint(path, node);
		await this.#setCondition(path, node);
	}

	async #removeTaint(path: string, node: Record<string, unknown>): Promise<void> {
		const taints = listOf(mapping(node.spec).taints, "spec.taints");
		const others = taints.filter((taint) => mapping(taint).key !== TAINT);
		if (others.length === taints.length) return this.#note("taint");
		// Refused if the Node was changed meanwhile; the next look reads it again.
		const { resourceVersion } = mapping(node.metadata);
		const body = { metadata: { resourceVersion }, spec: { taints: others } };
		await this.#patch("taint", `Cannot take the taint ${TAINT} off this Node`, path, body);
	}

	async #setCondition(path: string, node: Record<string, unknown>): Promise<void> {
		const conditions = listOf(mapping(node.status).conditions, "status.conditions").map(mapping);
		const present = conditions.find(({ type }) => type === "NetworkUnavailable");
		const others = present === undefined || ROUTE_REASONS.has(String(present.reason));
		if (!this.#tunnelled || others || present.status === "False") return this.#note("condition");
		const time = this.#now().toISOString();
		const body = {
			status: {
				conditions: [
					{
						...{ type: "NetworkUnavailable", status: "False", reason: "FairwayIsUp" },
						message: "Pods are reached in tunnels, which need no routes",
						...{ lastHeartbeatTime: time, lastTransitionTime: time },
					},
				],
			},
		};
		const what = "Cannot set the condition NetworkUnavailable of this Node";
		const type = "application/strategic-merge-patch+json";
		await this.#patch("condition", what, `${path}/status`, body, type);
	}

	async #patch(
		key: string,
		what: string,
		path: string,
		body: object,
		contentType = "application/merge-patch+json",
	): Promise<void> {
		const answer = await this.#send({ method: "PATCH", path, body, contentType });
		if (answer.status === 200) {
			answer.cancel();
			this.#note(key);
			return;
		}
		const failure = await failureOf(answer);
		// The Node was changed meanwhile, which is not a problem.
		if (answer.status === 409) throw failure;
		this.#note(key, what, failure);
	}

	// ------------------------------------------------------------ Events

	/** Written to the object's namespace, or to "default" if the object has none. */
	async #write(
		{ type, reason, note }: Pick<NoticeEvent, "type" | "note"> & { reason: string },
		action: string,
		regarding: Regarding,
	): Promise<void> {
		const { nodeName } = this.#options;
		const { namespace = "default", name } = regarding;
		if (this.#waiting >= WAITING_MAX) return;
		this.#waiting++;
		try {
			const time = this.#now();
			const answer = await this.#send({
				method: "POST",
				path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
				body: {
					apiVersion: "events.k8s.io/v1",
					kind: "Event",
					metadata: { name: `${name}.${randomBytes(8).toString("hex")}`, namespace },
					// With microseconds (metav1.MicroTime).
					eventTime: time.toISOString().replace("Z", "000Z"),
					reportingController: "fairway.dev/agent",
					reportingInstance: nodeName,
					...{ action, type, reason, note, regarding },
				},
			});
			if (answer.status === 201) {
				answer.cancel();
				this.#note("events");
			} else this.#note("events", "Cannot write Events", await failureOf(answer));
		} catch {
			// The Event is lost: its readers use the same API, which is unreachable.
		} finally {
			this.#waiting--;
		}
	}

	// ------------------------------------------------------------ common

	#now(): Date {
		return this.#options.date?.() ?? new Date();
	}

	#send(call: Omit<Call, "signal">): Promise<Answer> {
		return this.#options.client.send({ ...call, signal: this.#ended.signal });
	}

	/** Sets or clears a problem; `what` undefined: there is none. */
	#note(key: string, what?: string, failure?: ApiFailure): void {
		const problem = what === undefined ? undefined : `${what}: ${failure?.message}`;
		if (this.#problems.get(key) === problem) return;
		if (problem === undefined) this.#problems.delete(key);
		else this.#problems.set(key, problem);
		this.#options.onChange();
	}
}

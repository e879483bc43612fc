/**
 * An API server that serves a FakeCluster over HTTP/2 and HTTP/1.1, and misbehaves on command.
 *
 *  lists      whole, in pages, streamed (or not: `streams`)
 *  watches    events from a version on, bookmarks on command, an end on command
 *  too old    410 as a status or as an event (`goneAs`)
 *  lagging    the server has seen no more than a version (`seen`), and says so (`tooLarge`)
 *  refusals   any answer to requests that match (`answer`), 401 without the token
 *  network    GOAWAY, and by the relay before it (relay.ts) silence
 */
import {
	createSecureServer,
	type Http2SecureServer,
	type Http2ServerRequest,
	type Http2ServerResponse,
	type ServerHttp2Session,
} from "node:http2";
import { createServer as createHttps } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { Authority } from "./certificates.js";
import { type ApiObject, type ClusterEvent, type FakeCluster, SERVED } from "./cluster.js";

export interface FakeRequest {
	method: string;
	path: string;
	query: URLSearchParams;
	headers: Readonly<Record<string, unknown>>;
	body: string;
	http: string;
}

export interface FakeAnswer {
	status: number;
	headers?: Record<string, string>;
	body?: string;
}

interface Watch {
	plural: string;
	from: number;
	query: URLSearchParams;
	response: Http2ServerResponse;
}

export interface FakeServerOptions {
	authority?: Authority;
	/** Of the certificate; default: those of a real one, and 127.0.0.1. */
	names?: readonly string[];
	/** HTTP/1.1 only. */
	http1?: boolean;
}

export class FakeServer {
	readonly authority: Authority;
	readonly requests: FakeRequest[] = [];
	readonly watches = new Set<Watch>();
	/** By which it cannot select. */
	readonly unknownFields = new Set<string>();
	/** Kinds that this server has, by their plural. */
	readonly served = new Set(Object.keys(SERVED));
	/** Streamed lists: true; "refused": not known; "ignored": the parameter has no effect. */
	streams: true | "refused" | "ignored" = true;
	goneAs: "status" | "event" = "status";
	/** This server has seen no later version. */
	seen: number | undefined;
	/** Versions that it has not seen are refused. */
	tooLarge = true;
	/** Requests need it. */
	token: string | undefined;
	/** A list ends after so many objects, and its connection with it. */
	breakAfter: number | undefined;
	port = 0;
	readonly #cluster: FakeCluster;
	readonly #server: Http2SecureServer;
	readonly #sessions = new Set<ServerHttp2Session>();
	readonly #sockets = new Set<Socket>();
	readonly #answers: { matches: RegExp; answer: () => FakeAnswer | undefined }[] = [];
	readonly #unlisten: () => void;

	constructor(cluster: FakeCluster, options: FakeServerOptions = {}) {
		this.authority = options.authority ?? new Authority();
		const names = options.names ?? ["127.0.0.1", "localhost", "kubernetes.default.svc"];
		const { certificate, key } = this.authority.issue("kube-apiserver", names);
		this.#cluster = cluster;
		const secrets = { cert: certificate, key };
		// The two have the same requests and responses, as far as they are used here.
		this.#server =
			options.http1 === true
				? (createHttps(secrets) as unknown as Http2SecureServer)
				: createSecureServer({ ...secrets, allowHTTP1: true });
		this.#server.on("connection", (socket: Socket) => {
			this.#sockets.add(socket);
			socket.on("close", () => this.#sockets.delete(socket));
		});
		this.#server.on("session", (session) => {
			this.#sessions.add(session);
			session.on("close", () => this.#sessions.delete(session));
			session.on("error", () => undefined);
		});
		this.#server.on("sessionError", () => undefined);
		this.#server.on("request", (request, response) => void this.#serve(request, response));
		this.#unlisten = cluster.listen(() => this.#spread());
	}

	/** @param port default: a free one */
	async start(port = 0): Promise<this> {
		await new Promise<void>((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
		this.port = (this.#server.address() as AddressInfo).port;
		return this;
	}

	get url(): string {
		return `https://127.0.0.1:${this.port}`;
	}

	/** As when its process is killed. */
	async stop(): Promise<void> {
		this.#unlisten();
		for (const session of this.#sessions) session.destroy();
		for (const { response } of this.watches) response.stream?.destroy?.();
		// A session whose other end has gone in silence does not end with its destruction.
		for (const socket of this.#sockets) socket.destroy();
		(this.#server as unknown as { closeAllConnections?: () => void }).closeAllConnections?.();
		await new Promise((resolve) => this.#server.close(resolve));
	}

	/** Answers requests whose method and URL match ("GET /api/v1/nodes?watch=1"), until it is undefined. */
	answer(matches: RegExp, ...answers: (FakeAnswer | undefined)[]): void {
		const rest = [...answers];
		const last = answers.length === 1 ? answers[0] : undefined;
		this.#answers.push({ matches, answer: () => (last !== undefined ? last : rest.shift()) });
	}

	/** Answers as it should, again. */
	mend(): void {
		this.#answers.length = 0;
	}

	/** To all watches of a kind. */
	bookmark(plural: string, version = this.#now): void {
		const { kind } = SERVED[plural]!;
		const metadata = { resourceVersion: String(version), creationTimestamp: null };
		this.tell(plural, JSON.stringify({ type: "BOOKMARK", object: { kind, metadata } }));
	}

	/** A line, whatever it is, to all watches of a kind. */
	tell(plural: string, line: string): void {
		for (const watch of this.#watchesOf(plural)) watch.response.write(`${line}\n`);
	}

	/** Ends all watches of a kind, as their time-out does. */
	endWatches(plural: string): void {
		for (const watch of this.#watchesOf(plural)) {
			this.watches.delete(watch);
			watch.response.end();
		}
	}

	watched(plural: string): boolean {
		return this.#watchesOf(plural).length > 0;
	}

	goaway(): void {
		for (const session of this.#sessions) session.goaway(0);
	}

	get connections(): number {
		return this.#sessions.size;
	}

	/** A lagging server sees what it has not. */
	catchUp(): void {
		this.seen = undefined;
		this.#spread();
	}

	requestsFor(plural: string, matches = /./): string[] {
		const { root } = SERVED[plural]!;
		return this.requests
			.filter(({ path }) => path.startsWith(root) && path.endsWith(`/${plural}`))
			.map(({ query }) => query.toString())
			.filter((query) => matches.test(query));
	}

	get #now(): number {
		return Math.min(this.#cluster.version, this.seen ?? Number.POSITIVE_INFINITY);
	}

	#watchesOf(plural: string): Watch[] {
		return [...this.watches].filter((watch) => watch.plural === plural);
	}

	async #serve(request: Http2ServerRequest, response: Http2ServerResponse): Promise<void> {
		response.on("error", () => undefined);
		request.on("error", () => undefined);
		const chunks: Buffer[] = [];
		try {
			for await (const chunk of request) chunks.push(chunk as Buffer);
		} catch {
			return;
		}
		const url = new URL(request.url, "https://x");
		const asked: FakeRequest = {
			...{ method: request.method, path: url.pathname, query: url.searchParams },
			...{ headers: request.headers, body: Buffer.concat(chunks).toString() },
			http: request.httpVersion,
		};
		this.requests.push(asked);
		const whole = `${request.method} ${request.url}`;
		for (const { matches, answer } of this.#answers) {
			const scripted = matches.test(whole) ? answer() : undefined;
			if (scripted === undefined) continue;
			const type = { "content-type": "application/json" };
			response.writeHead(scripted.status, { ...type, ...scripted.headers });
			response.end(scripted.body ?? "");
			return;
		}
		if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`) {
			refuse(response, 401, "Unauthorized", "Unauthorized");
			return;
		}
		if (url.pathname === "/version") {
			response.writeHead(200, { "content-type": "application/json" });
			response.end(JSON.stringify({ gitVersion: "v1.37.2" }));
			return;
		}
		this.#serveObjects(asked, response);
	}

	#serveObjects(asked: FakeRequest, response: Http2ServerResponse): void {
		const [plural, name] = pluralOf(asked.path);
		if (plural === undefined || !this.served.has(plural)) {
			response.writeHead(404, { "content-type": "text/plain" });
			response.end("404 page not found\n");
			return;
		}
		if (termsOf(asked.query).some(({ field }) => this.unknownFields.has(field))) {
			refuse(response, 400, "BadRequest", "field label not supported");
			return;
		}
		if (asked.method === "GET" && name !== undefined) {
			const key = asked.path.split("/namespaces/")[1]?.replace(`/${plural}/`, "/") ?? `/${name}`;
			const object = this.#cluster.list(plural).find((one) => objectKey(one) === key);
			if (object === undefined) refuse(response, 404, "NotFound", "not found");
			else {
				response.writeHead(200, { "content-type": "application/json" });
				response.end(JSON.stringify(object));
			}
			return;
		}
		if (asked.method === "GET" && name === undefined) {
			if (/^(1|true)$/.test(asked.query.get("watch") ?? ""))
				this.#watch(plural, asked.query, response);
			else this.#list(plural, asked.query, response);
			return;
		}
		this.#write(plural, name, asked, response);
	}

	// ------------------------------------------------------------ list, watch

	/** As this server sees them. */
	#objects(plural: string, query: URLSearchParams): ApiObject[] {
		const at = this.#now;
		const objects = new Map<string, ApiObject>();
		if (at === this.#cluster.version)
			for (const object of this.#cluster.list(plural)) objects.set(objectKey(object), object);
		else
			for (const event of this.#cluster.events) {
				if (event.plural !== plural || event.version > at) continue;
				if (event.type === "DELETED") objects.delete(objectKey(event.object));
				else objects.set(objectKey(event.object), event.object);
			}
		return [...objects.values()].filter((object) => selected(object, query));
	}

	#list(plural: string, query: URLSearchParams, response: Http2ServerResponse): void {
		const wanted = Number(query.get("resourceVersion") ?? 0);
		if (wanted > this.#now && this.tooLarge) {
			this.#refuseLarge(wanted, response);
			return;
		}
		if (wanted > 0 && wanted < this.#cluster.compacted) {
			refuse(response, 410, "Expired", "The resourceVersion for the list is too old.");
			return;
		}
		const all = this.#objects(plural, query);
		const from = Number(query.get("continue") ?? 0);
		const limit = query.get("resourceVersion") === "0" ? 0 : Number(query.get("limit") ?? 0);
		const items = limit > 0 ? all.slice(from, from + limit) : all.slice(from);
		const rest = from + items.length < all.length ? String(from + items.length) : undefined;
		const { kind, root } = SERVED[plural]!;
		const head = {
			kind: `${kind}List`,
			apiVersion: root.replace(/^\/apis?\//, ""),
			metadata: { resourceVersion: String(this.#now), ...(rest ? { continue: rest } : {}) },
		};
		response.writeHead(200, { "content-type": "application/json" });
		const text = `${JSON.stringify({ ...head, items })}\n`;
		if (this.breakAfter === undefined || items.length <= this.breakAfter) {
			response.end(text);
			return;
		}
		response.write(text.slice(0, text.length >> 1));
		setImmediate(() => response.stream.destroy());
	}

	#watch(plural: string, query: URLSearchParams, response: Http2ServerResponse): void {
		const initial = query.get("sendInitialEvents") === "true" && this.streams !== "ignored";
		if (initial && this.streams === "refused") {
			refuse(response, 422, "Invalid", "sendInitialEvents is forbidden for watch");
			return;
		}
		const given = query.get("resourceVersion");
		const from = initial || given === null ? this.#now : Number(given);
		const gone = { code: 410, reason: "Expired", message: "too old resource version" };
		if (from < this.#cluster.compacted && this.goneAs === "status") {
			refuse(response, gone.code, gone.reason, gone.message);
			return;
		}
		if (from > this.#now && this.tooLarge) {
			this.#refuseLarge(from, response);
			return;
		}
		response.writeHead(200, { "content-type": "application/json" });
		const watch: Watch = { plural, from, query, response };
		if (from < this.#cluster.compacted) {
			response.end(`${JSON.stringify({ type: "ERROR", object: { kind: "Status", ...gone } })}\n`);
			return;
		}
		if (initial || given === null) {
			const objects = this.#objects(plural, query);
			const sent = objects.slice(0, this.breakAfter ?? objects.length);
			for (const object of sent) response.write(`${JSON.stringify({ type: "ADDED", object })}\n`);
			if (sent.length < objects.length) {
				setImmediate(() => response.stream.destroy());
				return;
			}
			const metadata = {
				resourceVersion: String(from),
				annotations: { "k8s.io/initial-events-end": "true" },
			};
			const object = { kind: SERVED[plural]!.kind, metadata };
			if (initial) response.write(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
		} else (response as unknown as { flushHeaders?: () => void }).flushHeaders?.();
		this.watches.add(watch);
		response.on("close", () => this.watches.delete(watch));
		this.#spread();
	}

	/** Sends to each watch the events that it has not had. */
	#spread(): void {
		const now = this.#now;
		for (const watch of this.watches)
			for (const event of this.#cluster.events) {
				if (event.version <= watch.from || event.version > now) continue;
				watch.from = event.version;
				const type = event.plural === watch.plural && this.#typeFor(event, watch.query);
				if (type) watch.response.write(`${JSON.stringify({ ...lineOf(event), type })}\n`);
			}
	}

	/** Of an object that begins or ceases to be selected it is another one; undefined: it is not told. */
	#typeFor({ type, object, plural, version }: ClusterEvent, query: URLSearchParams) {
		const is = selected(object, query);
		if (!query.has("fieldSelector")) return type;
		const before = this.#cluster.events.findLast(
			(one) =>
				one.plural === plural &&
				one.version < version &&
				objectKey(one.object) === objectKey(object),
		);
		const was = before !== undefined && before.type !== "DELETED" && selected(before.object, query);
		if (type === "DELETED") return was ? type : undefined;
		if (is) return was ? type : "ADDED";
		return was ? "DELETED" : undefined;
	}

	#refuseLarge(wanted: number, response: Http2ServerResponse): void {
		const message = `Too large resource version: ${wanted}, current: ${this.#now}`;
		const causes = [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }];
		refuse(response, 504, "Timeout", message, { retryAfterSeconds: 1, causes });
	}

	// ------------------------------------------------------------ writes

	#write(
		plural: string,
		name: string | undefined,
		{ method, path, body }: FakeRequest,
		response: Http2ServerResponse,
	): void {
		const answer = (status: number, object: unknown) => {
			response.writeHead(status, { "content-type": "application/json" });
			response.end(JSON.stringify(object));
		};
		const namespace = /\/namespaces\/([^/]+)\//.exec(path)?.[1];
		if (method === "POST") {
			const object = JSON.parse(body) as ApiObject;
			const space = namespace === undefined ? {} : { namespace };
			object.metadata = { ...object.metadata, ...space };
			answer(201, this.#cluster.put(plural, object));
			return;
		}
		const key = namespace === undefined ? (name ?? "") : `${namespace}/${name}`;
		const before = this.#cluster.get(plural, key);
		if (before === undefined) {
			refuse(response, 404, "NotFound", `${plural} "${name}" not found`);
			return;
		}
		if (method === "GET") {
			answer(200, before);
			return;
		}
		const patch = JSON.parse(body) as ApiObject;
		const wanted = patch.metadata?.resourceVersion;
		if (wanted !== undefined && wanted !== before.metadata.resourceVersion) {
			refuse(response, 409, "Conflict", "the object has been modified");
			return;
		}
		answer(200, this.#cluster.put(plural, merge(before, patch) as ApiObject));
	}
}

/** JSON merge patch (RFC 7396). */
function merge(target: unknown, patch: unknown): unknown {
	if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
	const merged: Record<string, unknown> =
		typeof target === "object" && target !== null && !Array.isArray(target) ? { ...target } : {};
	for (const [key, value] of Object.entries(patch))
		if (value === null) delete merged[key];
		else merged[key] = merge(merged[key], value);
	return merged;
}

function refuse(
	response: Http2ServerResponse,
	code: number,
	reason: string,
	message: string,
	details: object = {},
): void {
	response.writeHead(code, { "content-type": "application/json" });
	response.end(
		JSON.stringify({ kind: "Status", status: "Failure", code, reason, message, details }),
	);
}

/** [plural, name] of "/api/v1/nodes/n1", "/apis/GROUP/VERSION/namespaces/NS/PLURAL"... */
function pluralOf(path: string): [plural: string | undefined, name: string | undefined] {
	for (const [plural, { root, otherRoot }] of Object.entries(SERVED)) {
		if (otherRoot !== undefined && path.startsWith(`${otherRoot}/`))
			return pluralOf(`${root}${path.slice(otherRoot.length)}`);
		if (!path.startsWith(`${root}/`)) continue;
		const parts = path.slice(root.length + 1).split("/");
		const rest = parts[0] === "namespaces" && parts.length > 2 ? parts.slice(2) : parts;
		if (rest[0] === plural) return [plural, rest[1]];
	}
	return [undefined, undefined];
}

function selected(object: ApiObject, query: URLSearchParams): boolean {
	const { spec = {}, status = {} } = object as { spec?: Fields; status?: Fields };
	const fields: Record<string, string> = {
		"metadata.name": object.metadata.name,
		"spec.nodeName": String(spec.nodeName ?? ""),
		"spec.hostNetwork": String(spec.hostNetwork ?? false),
		"status.phase": String(status.phase ?? "Pending"),
		"status.podIP": String(status.podIP ?? (status.podIPs as { ip: string }[])?.[0]?.ip ?? ""),
	};
	return termsOf(query).every(({ field, negated, value }) => (fields[field] === value) !== negated);
}

type Fields = Record<string, unknown>;

function termsOf(query: URLSearchParams): { field: string; negated: boolean; value: string }[] {
	const text = query.get("fieldSelector") ?? "";
	return text.split(",").flatMap((term) => {
		const match = /^(.+?)(!=|=)(.*)$/.exec(term);
		if (match === null) return [];
		return [{ field: match[1]!, negated: match[2] === "!=", value: match[3]! }];
	});
}

function objectKey({ metadata: { name, namespace } }: ApiObject): string {
	return `${namespace ?? ""}/${name}`;
}

function lineOf({ type, object }: ClusterEvent): object {
	return { type, object };
}

/**
 * Requests to the Kubernetes API, at whichever of its servers answers.
 *
 *  1. one connection at a time; requests share it
 *  2. a connection that fails is closed, and the next one goes to the next server
 *  3. when no server answers, all requests wait together, longer each time
 *  4. token and certificates are read again every minute, at each connection, and when they are refused
 */
import { type Access, type ReadAccess, readServer, UnreachableError } from "./access.js";
import { Backoff } from "./backoff.js";
import { type Clock, sleep } from "./clock.js";
import { type ApiRequest, type ApiResponse, type Connection, dial } from "./connection.js";

export interface ApiClientOptions {
	access: ReadAccess;
	clock: Clock;
	/** Server addresses that an earlier agent learned, the best first. */
	known?: readonly string[];
	/** `problem` or `servers` may have changed. */
	onChange?: () => void;
	userAgent?: string;
}

export interface Call {
	method?: ApiRequest["method"];
	path: string;
	/** Sent as JSON. */
	body?: unknown;
	/** Default: application/json. */
	contentType?: string;
	/** The answer's media type. Default: application/json. */
	accept?: string;
	signal: AbortSignal;
}

export interface Answer extends ApiResponse {
	connection: Connection;
}

/** Until the head of an answer comes. */
const ANSWER_MS = 60_000;
const ACCESS_MS = 60_000;
const PAUSES = { first: 200, last: 10_000 };
/** Most servers that are learned; a control plane does not have more. */
const LEARNED_MAX = 16;

export class ApiClient {
	readonly #options: ApiClientOptions;
	readonly #backoff: Backoff;
	readonly #ended = new AbortController();
	#access: { value: Access; readAt: number } | undefined;
	#connection: Connection | undefined;
	#dialing: Promise<Connection> | undefined;
	/** No server is dialled before this time. */
	#notBefore = 0;
	/** Origins of known servers, the best first. */
	#known: string[];
	#learned: readonly string[] = [];
	/** The server of the last failed connection: tried last. */
	#avoided: string | undefined;
	#unreachable: string | undefined;
	#accessProblem: string | undefined;

	constructor(options: ApiClientOptions) {
		this.#options = options;
		this.#known = [...(options.known ?? [])];
		this.#learned = this.#known;
		this.#backoff = new Backoff(options.clock, PAUSES);
	}

	/** Why no server can be reached; undefined: one can. */
	get problem(): string | undefined {
		return this.#unreachable ?? this.#accessProblem;
	}

	/** The cluster's API servers as its own endpoints name them, the last one that worked first. */
	get servers(): readonly string[] {
		const good = this.#known[0];
		const first = good !== undefined && this.#learned.includes(good) ? [good] : [];
		return [...new Set([...first, ...this.#learned])];
	}

	/** Takes the servers' addresses that the API announces: "https://192.0.2.1:6443". None: ignored. */
	learn(servers: readonly string[]): void {
		if (servers.length === 0) return;
		const before = this.servers.join();
		this.#learned = servers.slice(0, LEARNED_MAX);
		if (this.servers.join() !== before) this.#options.onChange?.();
	}

	/**
	 * The answer, with any status. Its body must be read to the end, or cancelled.
	 *
	 * @throws Error when no server can be reached, after the pause that is due; or when the request failed
	 */
	async send(call: Call): Promise<Answer> {
		const { clock, userAgent } = this.#options;
		const signal = AbortSignal.any([call.signal, this.#ended.signal]);
		for (let again = false; ; again = true) {
			const connection = await this.#connected(signal);
			const { value: access } = await this.#readAccess(ACCESS_MS);
			const body = call.body === undefined ? undefined : JSON.stringify(call.body);
			const late = new AbortController();
			const timer = clock.after(ANSWER_MS, () =>
				late.abort(new Error(`no answer within ${ANSWER_MS / 1000} s`)),
			);
			const given = AbortSignal.any([signal, late.signal]);
			let response: ApiResponse;
			try {
				response = await connection.send({
					method: call.method ?? "GET",
					path: `${access.servers[0]!.pathname.replace(/\/$/, "")}${call.path}`,
					headers: {
						accept: call.accept ?? "application/json",
						"user-agent": userAgent ?? "fairway",
						...(body === undefined
							? {}
							: { "content-type": call.contentType ?? "application/json" }),
						...(access.token === undefined ? {} : { authorization: `Bearer ${access.token}` }),
					},
					...(body === undefined ? {} : { body }),
					signal: given,
				});
			} catch (error) {
				this.#onFailure(connection);
				throw late.signal.aborted ? (late.signal.reason as Error) : error;
			} finally {
				timer.cancel();
			}
			this.#onAnswer(connection);
			if (response.status === 401 && !again) {
				const used = access.token;
				const { value: now } = await this.#readAccess(0);
				if (now.token !== used) {
					response.cancel();
					continue;
				}
			}
			return { ...response, connection };
		}
	}

	/** This server's answers are errors: if there is another server, the next requests go there. */
	avoid(connection: Connection): void {
		if (this.#candidates().length < 2) return;
		this.#avoided = connection.server;
		if (this.#connection === connection) this.#connection = undefined;
		connection.retire();
	}

	close(): void {
		const error = new Error("the agent is stopping");
		this.#ended.abort(error);
		this.#connection?.destroy(error);
	}

	// ------------------------------------------------------------ connections

	async #connected(signal: AbortSignal): Promise<Connection> {
		if (this.#connection?.usable) return this.#connection;
		this.#dialing ??= this.#dialFirst().finally(() => {
			this.#dialing = undefined;
		});
		const connection = await this.#dialing;
		if (signal.aborted) throw signal.reason;
		return connection;
	}

	async #dialFirst(): Promise<Connection> {
		const { clock } = this.#options;
		const { signal } = this.#ended;
		const former = this.#connection;
		if (former !== undefined) this.#onFailure(former);
		await sleep(clock, this.#notBefore - clock.now(), signal);
		const failures: string[] = [];
		try {
			const { value: access } = await this.#readAccess(0);
			for (const server of this.#candidates()) {
				if (signal.aborted) break;
				try {
					this.#connection = await dial(new URL(server), access, clock, signal);
					return this.#connection;
				} catch (error) {
					failures.push(`${server}: ${reasonOf(error)}`);
				}
			}
		} catch (error) {
			failures.push((error as Error).message);
		}
		this.#pause();
		this.#setUnreachable(`Cannot reach the Kubernetes API: ${failures.join("; ")}`);
		throw new UnreachableError(this.#unreachable);
	}

	/** In the order in which they are tried. */
	#candidates(): string[] {
		const access = this.#access?.value;
		if (access === undefined) return [];
		const configured = access.servers.map(({ origin }) => origin);
		// Others have the same paths and authority only where the cluster's own servers are configured.
		const own = access.servers.every(({ protocol, pathname }) => {
			return protocol === "https:" && pathname === "/" && access.insecure !== true;
		});
		const possible = new Set([...configured, ...(own ? this.#learned : [])]);
		const good = this.#known.filter((server) => possible.has(server));
		const all = [...new Set([...good, ...possible])];
		const avoided = all.filter((server) => server === this.#avoided);
		return [...all.filter((server) => server !== this.#avoided), ...avoided];
	}

	#onAnswer({ server }: Connection): void {
		this.#backoff.reset();
		this.#notBefore = 0;
		if (this.#avoided === server) this.#avoided = undefined;
		this.#setUnreachable(undefined);
		if (this.#known[0] === server) return;
		this.#known = [server, ...this.#known.filter((other) => other !== server)];
		this.#options.onChange?.();
	}

	/** A failed connection is given up; one that was retired, or of which only one request failed, is ignored. */
	#onFailure(connection: Connection): void {
		if (connection.usable || this.#connection !== connection) return;
		this.#connection = undefined;
		this.#avoided = connection.server;
	}

	#pause(): void {
		this.#notBefore = this.#options.clock.now() + this.#backoff.next();
	}

	#setUnreachable(problem: string | undefined): void {
		if (this.#unreachable === problem) return;
		this.#unreachable = problem;
		this.#options.onChange?.();
	}

	// ------------------------------------------------------------ access

	/** While the access cannot be read, the last one is used. @throws Error when it was never read */
	async #readAccess(maxAge: number): Promise<{ value: Access }> {
		const { clock, access: read, onChange } = this.#options;
		const before = this.#access;
		if (before !== undefined && clock.now() - before.readAt < maxAge) return before;
		let problem: string | undefined;
		try {
			const value = await read();
			this.#access = { value, readAt: clock.now() };
		} catch (error) {
			problem = (error as Error).message;
			if (before === undefined) throw error;
			this.#access = { value: before.value, readAt: clock.now() };
		}
		if (problem !== this.#accessProblem) {
			this.#accessProblem = problem;
			onChange?.();
		}
		return this.#access;
	}
}

/** "https://192.0.2.1:6443" from an address and a port. */
export function serverAt(address: string, port: number): string {
	const host = address.includes(":") ? `[${address}]` : address;
	return readServer(`https://${host}:${port}`, "an API server's address").origin;
}

function reasonOf(error: unknown): string {
	const { errors } = error as AggregateError;
	// Both families of a name, for example.
	if (Array.isArray(errors) && errors.length > 0) return errors.map(reasonOf).join(", ");
	return (error as Error).message;
}

/**
 * The requests for one kind of objects. Its path and the selectors that work depend on the server: if one form is not
 * supported, the next is tried.
 */
import { failureOf, readJson } from "./answers.js";
import type { Answer, ApiClient } from "./api_client.js";

export interface Resource {
	/** "Node" */
	kind: string;
	/** "/api/v1/nodes" */
	path: string;
	/** Field and label selectors. */
	selectors?: Readonly<Record<string, string>>;
	/** For a server that does not support those. */
	otherSelectors?: Readonly<Record<string, string>>;
	/** "whole": listed in one piece, for a few selected objects. Default: streamed, else in pages. */
	list?: "whole";
	/** Some servers do not have the kind: then there are no objects of it. */
	optional?: boolean;
	/** Paths to try on servers that do not have it at `path`, with `optional`. */
	otherPaths?: readonly string[];
	/** Time until a server that does not have it is tried again. */
	absentMs?: number;
	/** Only the objects' metadata is requested. */
	metadataOnly?: boolean;
}

export type ResourceClient = Pick<ApiClient, "send" | "avoid">;

export class ResourceRequests {
	readonly #client: ResourceClient;
	readonly #resource: Resource;
	readonly #paths: readonly string[];
	readonly #signal: AbortSignal;
	/** Index in the paths. */
	#at = 0;
	/** Paths that the server was found not to have, since one was found or all were missing. */
	#missing = 0;
	#hasOtherSelectors = false;

	/** @param signal ends all requests */
	constructor(client: ResourceClient, resource: Resource, signal: AbortSignal) {
		this.#client = client;
		this.#resource = resource;
		this.#paths = [resource.path, ...(resource.otherPaths ?? [])];
		this.#signal = signal;
	}

	get #path(): string {
		return this.#paths[this.#at]!;
	}

	/**
	 * Asks for a list or a watch.
	 *
	 * @param query parameters of the request besides the selectors; those that are "" are left out
	 * @throws ApiFailure for another status than 200
	 */
	async open(query: Record<string, string>): Promise<Answer> {
		const { selectors, otherSelectors, metadataOnly } = this.#resource;
		const chosen = this.#hasOtherSelectors ? otherSelectors : selectors;
		const given = Object.entries({ ...chosen, ...query }).filter(([, value]) => value !== "");
		const path = `${this.#path}?${new URLSearchParams(given)}`;
		const accept = metadataOnly ? { accept: acceptMetadata(query.watch === "1") } : {};
		const answer = await this.#client.send({ path, ...accept, signal: this.#signal });
		if (answer.status === 200) return answer;
		const failure = await failureOf(answer);
		if (failure.remedy === "unwell") this.#client.avoid(answer.connection);
		throw failure;
	}

	/**
	 * Asks for a list of one object, without selectors: the server reads one, whatever there are.
	 *
	 * @throws ApiFailure for another status than 200
	 */
	async openOne(): Promise<Answer> {
		const answer = await this.#client.send({ path: `${this.#path}?limit=1`, signal: this.#signal });
		if (answer.status !== 200) throw await failureOf(answer);
		return answer;
	}

	/** True if it is the API that answers: a proxy may answer everything with 404. */
	async isApi(): Promise<boolean> {
		try {
			const answer = await this.#client.send({
				path: "/version",
				signal: this.#signal,
			});
			return answer.status === 200 && hasVersion(await readJson(answer));
		} catch {
			return false;
		}
	}

	/** The server has the kind at this path. */
	found(): void {
		this.#missing = 0;
	}

	/** The server does not have it there. Returns false after the last path; the next try begins with the first. */
	nextPath(): boolean {
		this.#at = (this.#at + 1) % this.#paths.length;
		if (++this.#missing < this.#paths.length) return true;
		this.#missing = 0;
		return false;
	}

	/** The server does not support the selectors. Returns false if there are no others. */
	changeSelectors(): boolean {
		if (this.#resource.otherSelectors === undefined || this.#hasOtherSelectors) return false;
		this.#hasOtherSelectors = true;
		return true;
	}
}

/** Servers since 1.15 answer with metadata alone; any other answers with whole objects. */
function acceptMetadata(watch: boolean): string {
	const as = watch ? "PartialObjectMetadata" : "PartialObjectMetadataList";
	return `application/json;as=${as};g=meta.k8s.io;v=v1,application/json`;
}

function hasVersion(answer: unknown): boolean {
	return typeof answer === "object" && answer !== null && "gitVersion" in answer;
}

/**
 * The requests for one kind of objects. Where the kind lies, and which selectors are known, depends on the server:
 * what one server does not have is asked for in the next way.
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
	/** Of a server that does not know those. */
	otherSelectors?: Readonly<Record<string, string>>;
	/** How it is listed: a selected few in one piece. Default: streamed, else in pages. */
	list?: "whole";
	/** Some servers do not have it: then there are none. */
	optional?: boolean;
	/** Where servers that do not have it there have it, with `optional`. */
	otherPaths?: readonly string[];
	/** Until a server that does not have it is asked again. */
	absentMs?: number;
	/** Only the objects' metadata is asked for. */
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

	/** True: the API answers. What stands between may answer 404 to everything. */
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

	/** The server has the kind where it was asked for. */
	found(): void {
		this.#missing = 0;
	}

	/** It has not. Returns false where it was asked for everywhere: then all begins anew. */
	nextPath(): boolean {
		this.#at = (this.#at + 1) % this.#paths.length;
		if (++this.#missing < this.#paths.length) return true;
		this.#missing = 0;
		return false;
	}

	/** The server does not know the selectors. Returns false if there are no others. */
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

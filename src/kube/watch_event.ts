/** The events of a watch, each a line of JSON. */
import { statusFailure } from "./answers.js";

export interface WatchEvent {
	type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
	object: unknown;
	/** The version of the known objects once the event is taken in. */
	resourceVersion: string;
	/** A bookmark: the objects before it are the list that a streamed list begins with. */
	endsList: boolean;
}

/** The line is not an event, or lacks a mandatory field. */
export class NonsenseError extends Error {}

const TYPES: ReadonlySet<unknown> = new Set(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]);
const INITIAL_EVENTS_END = "k8s.io/initial-events-end";

/**
 * @throws ApiFailure for an event ERROR, by what its status says
 * @throws NonsenseError
 */
export function readEvent(line: string): WatchEvent {
	let event: unknown;
	try {
		event = JSON.parse(line);
	} catch {
		throw new NonsenseError("expected events as lines of JSON, got something else");
	}
	const { type, object } = mapping(event);
	if (type === "ERROR") throw statusFailure(object);
	if (!isType(type)) throw new NonsenseError("expected an event, got something else");
	const { resourceVersion, annotations } = mapping(mapping(object).metadata);
	if (typeof resourceVersion !== "string" || resourceVersion === "")
		throw new NonsenseError(`expected a resourceVersion in an event ${type}, got none`);
	const endsList = type === "BOOKMARK" && mapping(annotations)[INITIAL_EVENTS_END] === "true";
	return { type, object, resourceVersion, endsList };
}

function isType(type: unknown): type is WatchEvent["type"] {
	return TYPES.has(type);
}

function mapping(value: unknown): Record<string, unknown> {
	return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

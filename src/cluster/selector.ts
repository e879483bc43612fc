/**
 * Label selectors (metav1.LabelSelector): parsing and matching. Absent and empty differ: the field that lacks a
 * selector defines what absent means; an empty selector matches everything.
 */
import { Fault, listOf, type Mapping, show } from "./fields.js";
import { intern, type Labels, labelOf } from "./labels.js";

export interface Requirement {
	key: string;
	operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
	/** Sorted; empty with Exists and DoesNotExist. */
	values: readonly string[];
}

/** All of them hold, so an empty one matches everything. Sorted: equal selectors are equal values. */
export type Selector = readonly Requirement[];

export const EVERYTHING: Selector = [];

const OPERATORS = new Set(["In", "NotIn", "Exists", "DoesNotExist"]);
const NO_VALUES: readonly string[] = [];

/** Absent and null count as empty. @throws Fault */
export function readSelector(value: unknown, where: string): Selector {
	const { matchLabels, matchExpressions } = objectOf(value, where);
	const requirements: Requirement[] = [];
	for (const [key, text] of Object.entries(objectOf(matchLabels, `${where}.matchLabels`))) {
		if (typeof text !== "string")
			throw new Fault(`expected a text as ${where}.matchLabels["${key}"], got ${show(text)}`);
		requirements.push({ key: intern(key), operator: "In", values: [intern(text)] });
	}
	for (const [i, item] of listOf(matchExpressions, `${where}.matchExpressions`).entries())
		requirements.push(readRequirement(item, `${where}.matchExpressions[${i}]`));
	if (requirements.length === 0) return EVERYTHING;
	return requirements.sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1));
}

function readRequirement(item: unknown, where: string): Requirement {
	const { key, operator, values } = objectOf(item, where);
	if (typeof key !== "string" || key === "")
		throw new Fault(`expected a label as ${where}.key, got ${show(key)}`);
	if (typeof operator !== "string" || !OPERATORS.has(operator))
		throw new Fault(
			`expected In, NotIn, Exists or DoesNotExist as ${where}.operator, got ${show(operator)}`,
		);
	const texts = listOf(values, `${where}.values`).map((text, i) => {
		if (typeof text === "string") return intern(text);
		throw new Fault(`expected a text as ${where}.values[${i}], got ${show(text)}`);
	});
	const wantsValues = operator === "In" || operator === "NotIn";
	if (wantsValues !== texts.length > 0)
		throw new Fault(
			`expected ${wantsValues ? "at least one value" : "no values"} as ${where}.values of ${operator}, got ${wantsValues ? "none" : texts.length}`,
		);
	return {
		key: intern(key),
		operator: operator as Requirement["operator"],
		values: texts.length === 0 ? NO_VALUES : [...new Set(texts)].sort(),
	};
}

/** NotIn and DoesNotExist hold where the label is absent. */
export function matches(selector: Selector, labels: Labels): boolean {
	for (const { key, operator, values } of selector) {
		const value = labelOf(labels, key);
		const holds =
			operator === "In"
				? value !== undefined && values.includes(value)
				: operator === "NotIn"
					? value === undefined || !values.includes(value)
					: (value !== undefined) === (operator === "Exists");
		if (!holds) return false;
	}
	return true;
}

/** The same text for the same selector, and for no other. */
export function selectorText(selector: Selector): string {
	return selector.length === 0 ? "" : selector.map(textOf).join();
}

function textOf({ key, operator, values }: Requirement): string {
	return JSON.stringify([key, operator, ...values]);
}

/** A mapping; absent and null count as an empty one. @throws Fault */
export function objectOf(value: unknown, where: string): Mapping {
	if (value === undefined || value === null) return {};
	if (typeof value === "object" && !Array.isArray(value)) return value as Mapping;
	throw new Fault(`expected a mapping as ${where}, got ${show(value)}`);
}

/**
 * The kind of a path's reason: its first clause without numbers, addresses and names, so that the label has few
 * values.
 */

const ADDRESS =
	/\b(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{1,4}(?:::?[0-9a-f]{1,4}){1,7}(?:::)?)(?:\/\d+)?/gi;

/** @param node the peer's name, which may stand in the sentence */
export function reasonKind(reason: string, node: string): string {
	const [clause = ""] = reason.split(/;|\.(?=\s|$)/, 1);
	return clause
		.split(node)
		.join("NODE")
		.replace(ADDRESS, "ADDRESS")
		.replace(/\d+(?:\.\d+)?/g, "N")
		.slice(0, 120);
}

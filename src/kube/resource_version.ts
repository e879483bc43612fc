/**
 * Versions are opaque; but where both are numbers, which API servers of Kubernetes have always had and
 * promise since 1.35, they can be compared (any number of digits).
 */
export function isOlder(version: string, than: string): boolean {
	if (!DIGITS.test(version) || !DIGITS.test(than)) return false;
	if (version.length !== than.length) return version.length < than.length;
	return version < than;
}

const DIGITS = /^[1-9]\d*$/;

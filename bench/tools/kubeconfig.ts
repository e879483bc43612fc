/** A kubeconfig of a client with a certificate. JSON is YAML. */
import type { Access } from "../../src/kube/access.js";

export function kubeconfigOf(
	{ ca = "", certificate = "", key = "" }: Pick<Access, "ca" | "certificate" | "key">,
	server: string,
): string {
	const base64 = (text: string): string => Buffer.from(text).toString("base64");
	const cluster = { server, "certificate-authority-data": base64(ca) };
	const user = {
		"client-certificate-data": base64(certificate),
		"client-key-data": base64(key),
	};
	return JSON.stringify({
		...{ apiVersion: "v1", kind: "Config", "current-context": "bench" },
		clusters: [{ name: "bench", cluster }],
		users: [{ name: "bench", user }],
		contexts: [{ name: "bench", context: { cluster: "bench", user: "bench" } }],
	});
}

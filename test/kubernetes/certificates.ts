/** The cluster's certificate authority, certificates and kubeconfigs, made by openssl. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../src/lab/namespace.js";
import { apiServer, controlPlane, folders, nodePlans } from "./layout.js";

const file = (name: string): string => join(folders.pki, name);
const openssl = (...args: string[]): Promise<unknown> => run(["openssl", ...args]);
export const kubeconfig = (name: string): string => file(`${name}.kubeconfig`);

const serverNames = [
	"DNS:kubernetes",
	"DNS:kubernetes.default",
	"DNS:kubernetes.default.svc",
	"DNS:kubernetes.default.svc.cluster.local",
	"DNS:localhost",
	"IP:127.0.0.1",
	"IP:10.96.0.1",
	"IP:fd00:10:96::1",
	`IP:${controlPlane.v4}`,
	`IP:${controlPlane.v6}`,
].join(",");

/** Client → its subject, by which the API server authorizes it. */
const clients: Record<string, string> = {
	admin: "/O=system:masters/CN=admin",
	"api-server-kubelet": "/O=system:masters/CN=kube-apiserver-kubelet-client",
	"controller-manager": "/CN=system:kube-controller-manager",
	scheduler: "/CN=system:kube-scheduler",
	"kube-proxy": "/CN=system:kube-proxy",
	...Object.fromEntries(
		nodePlans.map(({ name }) => [name, `/O=system:nodes/CN=system:node:${name}`]),
	),
};

async function certificate(name: string, subject: string, extensions: string): Promise<void> {
	writeFileSync(file(`${name}.ext`), extensions);
	await openssl(
		...["req", "-newkey", "rsa:2048", "-nodes", "-subj", subject],
		...["-keyout", file(`${name}.key`), "-out", file(`${name}.csr`)],
	);
	await openssl(
		...[
			"x509",
			"-req",
			"-in",
			file(`${name}.csr`),
			"-CA",
			file("ca.crt"),
			"-CAkey",
			file("ca.key"),
		],
		// One serial number file for all would be a race.
		...["-set_serial", `0x${Buffer.from(name).toString("hex")}`, "-days", "30"],
		...["-extfile", file(`${name}.ext`), "-out", file(`${name}.crt`)],
	);
}

function writeKubeconfig(name: string): void {
	const base64 = (of: string): string => readFileSync(file(of)).toString("base64");
	const config = {
		apiVersion: "v1",
		kind: "Config",
		clusters: [
			{
				name: "cluster",
				cluster: { server: apiServer, "certificate-authority-data": base64("ca.crt") },
			},
		],
		users: [
			{
				name,
				user: {
					"client-certificate-data": base64(`${name}.crt`),
					"client-key-data": base64(`${name}.key`),
				},
			},
		],
		contexts: [{ name: "cluster", context: { cluster: "cluster", user: name } }],
		"current-context": "cluster",
	};
	// JSON is YAML.
	writeFileSync(kubeconfig(name), `${JSON.stringify(config, null, "\t")}\n`, { mode: 0o600 });
}

export async function makeCertificates(): Promise<void> {
	mkdirSync(folders.pki, { recursive: true });
	await openssl(
		...[
			"req",
			"-x509",
			"-newkey",
			"rsa:2048",
			"-nodes",
			"-days",
			"30",
			"-subj",
			"/CN=fairway-test",
		],
		...["-keyout", file("ca.key"), "-out", file("ca.crt")],
	);
	await openssl("genrsa", "-out", file("service-account.key"), "2048");
	await openssl(
		...["rsa", "-in", file("service-account.key"), "-pubout", "-out", file("service-account.pub")],
	);
	await Promise.all([
		certificate(
			"api-server",
			"/CN=kube-apiserver",
			`extendedKeyUsage=serverAuth\nsubjectAltName=${serverNames}\n`,
		),
		...Object.entries(clients).map(([name, subject]) =>
			certificate(name, subject, "extendedKeyUsage=clientAuth\n"),
		),
	]);
	for (const name of Object.keys(clients)) writeKubeconfig(name);
}

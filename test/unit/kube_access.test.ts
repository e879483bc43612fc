/** kubeconfig files and service accounts: what is read of them, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { kubeconfig } from "../../src/kube/kubeconfig.js";
import { serviceAccount } from "../../src/kube/service_account.js";

function directory(t: Test, files: Record<string, string> = {}): string {
	const path = mkdtempSync(join(tmpdir(), "fairway-access-"));
	t.teardown(() => rmSync(path, { recursive: true }));
	for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
	return path;
}

const PEM = (what: string) => `-----BEGIN CERTIFICATE-----\n${what}\n-----END CERTIFICATE-----\n`;
const base64 = (what: string) => Buffer.from(PEM(what)).toString("base64");

function config(cluster: string, user: string, more = "current-context: a"): string {
	return `apiVersion: v1
kind: Config
clusters:
- {name: c, cluster: {${cluster}}}
- {name: other, cluster: {server: "https://192.0.2.9:6443"}}
users:
- {name: u, user: {${user}}}
contexts:
- {name: a, context: {cluster: c, user: u}}
- {name: b, context: {cluster: other}}
${more}
`;
}

const SERVER = 'server: "https://192.0.2.1:6443"';

t.test("what a kubeconfig says", async (t) => {
	const files = {
		"ca.crt": PEM("ca"),
		"me.crt": PEM("me"),
		"me.key": PEM("key"),
		token: "of a file\n",
	};
	const rows: [what: string, text: string, access: object][] = [
		["a token", config(SERVER, "token: abc"), { token: "abc" }],
		[
			"a file with the token comes first",
			config(SERVER, "token: abc, tokenFile: token"),
			{ token: "of a file" },
		],
		[
			"certificates in files beside it",
			config(
				`${SERVER}, certificate-authority: ca.crt`,
				"client-certificate: me.crt, client-key: me.key",
			),
			{ ca: PEM("ca"), certificate: PEM("me"), key: PEM("key") },
		],
		[
			"certificates in itself come first",
			config(
				`${SERVER}, certificate-authority-data: ${base64("in it")}, certificate-authority: none`,
				`client-certificate-data: ${base64("my")}, client-key-data: ${base64("mine")}`,
			),
			{ ca: PEM("in it"), certificate: PEM("my"), key: PEM("mine") },
		],
		[
			"how to verify",
			config(`${SERVER}, tls-server-name: kube, insecure-skip-tls-verify: true`, ""),
			{ serverName: "kube", insecure: true, token: undefined },
		],
		[
			"the current context",
			config(SERVER, "token: abc", "current-context: b"),
			{ token: undefined },
		],
	];
	for (const [what, text, access] of rows) {
		const file = join(directory(t, { ...files, config: text }), "config");
		t.match(await kubeconfig(file)(), access, what);
	}
	const file = join(directory(t, { config: config(SERVER, "token: abc") }), "config");
	const read = kubeconfig(file);
	const { servers, token } = await read();
	t.equal(servers[0]?.href, "https://192.0.2.1:6443/");
	t.equal(token, "abc");
	writeFileSync(file, config(SERVER, "token: def"));
	t.match(await read(), { token: "def" }, "a file that changed is read again");
});

t.test("what is wrong with a kubeconfig", async (t) => {
	const rows: [text: string, why: RegExp][] = [
		["", /expected a kubeconfig, got no mapping/],
		["a: [", /Cannot use \S+config: /],
		[config(SERVER, "", "current-context: z"), /expected "z" in contexts, got none/],
		[config(SERVER, "", ""), /expected a current-context/],
		[config("", ""), /expected a server of cluster c/],
		[config("server: nonsense", ""), /expected an address such as https:\S+, got "nonsense"/],
		[config(`${SERVER}, certificate-authority: none.crt`, ""), /ENOENT.*none\.crt/],
		[
			config(`${SERVER}, certificate-authority-data: eHg=`, ""),
			/certificate-authority-data as base64 of PEM/,
		],
		[
			config(SERVER, `client-certificate-data: ${base64("x")}`),
			/both client-certificate and client-key of user u/,
		],
		[config(SERVER, "exec: {command: aws}"), /got the plugin "exec"; agents use certificates/],
		[config(SERVER, "auth-provider: {name: oidc}"), /got the plugin "auth-provider"/],
		[config(`${SERVER}, proxy-url: "http://x"`, ""), /without a proxy, got a proxy-url/],
		[config(SERVER, "tokenFile: none"), /ENOENT.*none/],
	];
	for (const [text, why] of rows) {
		const file = join(directory(t, { config: text }), "config");
		await t.rejects(kubeconfig(file)(), { message: why }, String(why));
	}
});

t.test("a service account, and where its API server is", async (t) => {
	const path = directory(t, { token: "abc\n", "ca.crt": PEM("ca") });
	const servers = async (env: NodeJS.ProcessEnv) => {
		const access = await serviceAccount({ env, directory: path })?.();
		return access?.servers.map(({ origin }) => origin).join(" ");
	};
	const pod = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };
	t.equal(await servers(pod), "https://10.96.0.1");
	t.equal(
		await servers({ KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "6443" }),
		"https://[fd00::1]:6443",
	);
	const named = "https://192.0.2.1:6443, https://192.0.2.2:6443";
	t.equal(
		await servers({ ...pod, FAIRWAY_API_SERVER: named }),
		"https://192.0.2.1:6443 https://192.0.2.2:6443",
		"FAIRWAY_API_SERVER comes first",
	);
	t.equal(serviceAccount({ env: {}, directory: path }), undefined, "no Pod");
	t.throws(() => serviceAccount({ env: { FAIRWAY_API_SERVER: "192.0.2.1" } }), {
		message: /^Cannot use FAIRWAY_API_SERVER: expected an address such as/,
	});
	t.match(await serviceAccount({ env: pod, directory: path })?.(), { token: "abc", ca: PEM("ca") });
	writeFileSync(join(path, "token"), "def");
	t.match(await serviceAccount({ env: pod, directory: path })?.(), { token: "def" });
	rmSync(join(path, "token"));
	await t.rejects(serviceAccount({ env: pod, directory: path })!(), {
		message: /^Cannot read the service account's token: ENOENT/,
	});
});

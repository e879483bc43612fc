/** Valid and invalid calls: the exact answers of the plugin, with an agent that only echoes. */
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { ApiServer } from "../../src/api/server.js";
import { notedDeletions } from "../../src/cni/deletions.js";
import type { Endpoint } from "../../src/cni/endpoint.js";
import { hostInterfaceNames, podMac } from "../../src/cni/endpoint.js";
import { ErrorCode, errorObject } from "../../src/cni/errors.js";
import { run } from "../../src/cni/plugin.js";
import { parseRequest } from "../../src/cni/request.js";
import { addResult } from "../../src/cni/result.js";
import { isPodInterface } from "../../src/linux/names.js";

const good = { cniVersion: "1.0.0", name: "fairway", type: "fairway-cni" };
const variables = {
	CNI_COMMAND: "ADD",
	CNI_CONTAINERID: "abc123",
	CNI_NETNS: "/run/netns/pod",
	CNI_IFNAME: "eth0",
	CNI_PATH: "/opt/cni/bin",
};

/** No agent listens there, and its directory does not exist. */
const nowhere = join(tmpdir(), "fairway-no-such-directory", "agent.sock");

interface Row {
	what: string;
	variables?: Record<string, string | undefined>;
	/** Merged into the valid configuration; a string replaces the whole input. */
	config?: object | string;
	status?: 0 | 1;
	body: unknown;
}

const error = (cniVersion: string, code: number, msg: string): object => ({
	cniVersion,
	code,
	msg,
});
const id = "1 to 128 letters, digits, '_', '.' or '-', a letter or digit first";
const netName = "1 to 64 letters, digits, '_', '.' or '-', a letter or digit first";
const versions = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

const rows: Row[] = [
	{
		what: "VERSION needs no agent and answers with the version that was asked",
		variables: { CNI_COMMAND: "VERSION" },
		config: '{"cniVersion":"0.4.0"}',
		status: 0,
		body: { cniVersion: "0.4.0", supportedVersions: versions },
	},
	{
		what: "VERSION without any input",
		variables: { CNI_COMMAND: "VERSION", CNI_CONTAINERID: undefined },
		config: "",
		status: 0,
		body: { cniVersion: "1.1.0", supportedVersions: versions },
	},
	{
		what: "no command",
		variables: { CNI_COMMAND: undefined },
		body: error(
			"1.0.0",
			4,
			"Cannot use CNI_COMMAND: expected ADD, DEL, CHECK, STATUS, GC or VERSION, got nothing",
		),
	},
	{
		what: "an unknown command",
		variables: { CNI_COMMAND: "constructor" },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_COMMAND: expected ADD, DEL, CHECK, STATUS, GC or VERSION, got "constructor"',
		),
	},
	{
		what: "an array as configuration",
		config: "[]",
		body: error(
			"1.1.0",
			6,
			"Cannot read the network configuration: expected a JSON object, got []",
		),
	},
	{
		what: "an unknown CNI version",
		config: { cniVersion: "9.9.9" },
		body: error(
			"1.1.0",
			1,
			'Cannot use cniVersion: expected one of 0.3.1, 0.4.0, 1.0.0, 1.1.0, got "9.9.9"',
		),
	},
	{
		what: "no CNI version",
		config: { cniVersion: undefined },
		body: error(
			"1.1.0",
			1,
			"Cannot use cniVersion: expected one of 0.3.1, 0.4.0, 1.0.0, 1.1.0, got nothing",
		),
	},
	{
		what: "CHECK of a version that has none",
		variables: { CNI_COMMAND: "CHECK" },
		config: { cniVersion: "0.3.1" },
		body: error("0.3.1", 1, "Cannot CHECK: expected cniVersion 0.4.0 or newer, got 0.3.1"),
	},
	{
		what: "GC of a version that has none",
		variables: { CNI_COMMAND: "GC" },
		body: error("1.0.0", 1, "Cannot GC: expected cniVersion 1.1.0 or newer, got 1.0.0"),
	},
	{
		what: "GC without a list removes nothing",
		variables: { CNI_COMMAND: "GC" },
		config: { cniVersion: "1.1.0" },
		body: error("1.1.0", 7, 'Cannot collect garbage: "cni.dev/valid-attachments" is missing'),
	},
	{
		what: "GC with a broken list removes nothing",
		variables: { CNI_COMMAND: "GC" },
		config: { cniVersion: "1.1.0", "cni.dev/valid-attachments": [{ containerID: "a" }] },
		body: error(
			"1.1.0",
			7,
			'Cannot use "cni.dev/valid-attachments": expected objects with the strings "containerID" and "ifname", got {"containerID":"a"}',
		),
	},
	{
		what: "no network name",
		config: { name: undefined },
		body: error("1.0.0", 7, `Cannot use "name": expected ${netName}, got nothing`),
	},
	{
		what: "a network name that would leave its directory",
		config: { name: "../x" },
		body: error("1.0.0", 7, `Cannot use "name": expected ${netName}, got "../x"`),
	},
	{
		what: "a relative socket",
		config: { socket: "agent.sock" },
		body: error(
			"1.0.0",
			7,
			'Cannot use "socket": expected the absolute path of the agent\'s socket, got "agent.sock"',
		),
	},
	{
		what: "an IPAM plugin",
		config: { ipam: { type: "host-local" } },
		body: error(
			"1.0.0",
			2,
			'Cannot use "ipam": expected none (addresses come from the Node\'s pod CIDRs), got {"type":"host-local"}',
		),
	},
	{
		what: "a wanted MAC",
		config: { runtimeConfig: { mac: "02:00:00:00:00:01" } },
		body: error(
			"1.0.0",
			2,
			'Cannot use "runtimeConfig.mac": expected none (Fairway assigns addresses itself), got "02:00:00:00:00:01"',
		),
	},
	{
		what: "CHECK without prevResult",
		variables: { CNI_COMMAND: "CHECK" },
		body: error("1.0.0", 7, 'Cannot check the attachment: "prevResult" is missing'),
	},
	{
		what: "a prevResult with a wrong list",
		config: { prevResult: { ips: [1] } },
		body: error("1.0.0", 7, 'Cannot use "prevResult.ips": expected a list of objects, got [1]'),
	},
	{
		what: "no container id",
		variables: { CNI_CONTAINERID: undefined },
		body: error("1.0.0", 4, `Cannot use CNI_CONTAINERID: expected ${id}, got nothing`),
	},
	{
		what: "a container id that is a path",
		variables: { CNI_CONTAINERID: "a/b" },
		body: error("1.0.0", 4, `Cannot use CNI_CONTAINERID: expected ${id}, got "a/b"`),
	},
	{
		what: "an interface name of 16 characters",
		variables: { CNI_IFNAME: "a234567890123456" },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_IFNAME: expected an interface name of 1 to 15 characters, got "a234567890123456"',
		),
	},
	{
		what: "an interface name with a shell in it",
		variables: { CNI_IFNAME: "$(reboot)" },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_IFNAME: expected an interface name of 1 to 15 characters, got "$(reboot)"',
		),
	},
	{
		what: "..",
		variables: { CNI_IFNAME: ".." },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_IFNAME: expected an interface name of 1 to 15 characters, got ".."',
		),
	},
	{
		what: "ADD without a namespace",
		variables: { CNI_NETNS: undefined },
		body: error(
			"1.0.0",
			4,
			"Cannot use CNI_NETNS: expected the absolute path of a network namespace, got nothing",
		),
	},
	{
		what: "a namespace with a space, which iproute2 would take apart",
		variables: { CNI_NETNS: "/run/netns/a b" },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_NETNS: expected the absolute path of a network namespace, got "/run/netns/a b"',
		),
	},
	{
		what: "CNI_ARGS that are none",
		variables: { CNI_ARGS: "IgnoreUnknown" },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_ARGS: expected KEY=VALUE;KEY=VALUE, got "IgnoreUnknown"',
		),
	},
	{
		what: "ADD without an agent is to be tried again",
		body: error(
			"1.0.0",
			11,
			`Cannot reach the agent at ${nowhere}: no such socket (is the agent running, and with this --run-dir?)`,
		),
	},
	{
		what: "STATUS without an agent",
		variables: { CNI_COMMAND: "STATUS" },
		config: { cniVersion: "1.1.0" },
		body: error(
			"1.1.0",
			50,
			`Cannot reach the agent at ${nowhere}: no such socket (is the agent running, and with this --run-dir?)`,
		),
	},
	{
		what: "DEL where no agent has ever run: nothing is attached",
		variables: { CNI_COMMAND: "DEL", CNI_NETNS: undefined },
		status: 0,
		body: undefined,
	},
];

for (const { what, variables: changes, config, status = 1, body } of rows) {
	t.test(what, async (t) => {
		const input =
			typeof config === "string"
				? config
				: JSON.stringify({ ...good, socket: nowhere, ...(config ?? {}) });
		const answer = await run({ ...variables, ...changes }, () => input);
		t.strictSame(answer, body === undefined ? { status } : { status, body });
	});
}

t.test("input that is unreadable or not JSON", async (t) => {
	t.match(await run(variables, () => '{"cniVersion": '), {
		status: 1,
		body: {
			cniVersion: "1.1.0",
			code: 6,
			msg: /^Cannot read the network configuration: expected JSON: /,
		},
	});
	const broken = () => {
		throw new Error("EAGAIN: resource temporarily unavailable, read");
	};
	t.match(await run(variables, broken), {
		status: 1,
		body: { code: 5, msg: /^Cannot read standard input: .*EAGAIN/ },
	});
});

/* ------------------------------------------------------ with something that answers */

function directory(t: { teardown(remove: () => void): void }): string {
	const made = mkdtempSync(join(tmpdir(), "fairway-cni-"));
	t.teardown(() => rmSync(made, { recursive: true, force: true }));
	return made;
}

t.test("the agent gets the parameters, and its answer is printed unchanged", async (t) => {
	const runDir = directory(t);
	let asked: unknown;
	const answer = { status: 1, body: { cniVersion: "1.0.0", code: 100, msg: "m", details: "d" } };
	const server = await ApiServer.open(runDir, {
		"POST /cni": (body) => {
			asked = body;
			return { status: 200, body: answer };
		},
	});
	t.teardown(() => server.close());
	const config = { ...good, socket: server.socketPath };
	const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";
	t.strictSame(await run({ ...variables, CNI_ARGS: args }, () => JSON.stringify(config)), answer);
	t.strictSame(asked, {
		command: "ADD",
		containerId: "abc123",
		netns: "/run/netns/pod",
		ifName: "eth0",
		args,
		config,
	});
});

t.test("an agent that refuses the call", async (t) => {
	const server = await ApiServer.open(directory(t), {});
	t.teardown(() => server.close());
	const config = JSON.stringify({ ...good, socket: server.socketPath });
	for (const CNI_COMMAND of ["ADD", "DEL"]) {
		t.match(await run({ ...variables, CNI_COMMAND }, () => config), {
			status: 1,
			body: { code: 11, msg: /^Cannot get an answer from the agent: / },
		});
	}
	t.same(await notedDeletions(join(server.socketPath, "..")), [], "it is there: no note");
});

t.test("DEL while the agent is down leaves a note, once", async (t) => {
	const runDir = directory(t);
	const config = JSON.stringify({ ...good, socket: join(runDir, "agent.sock") });
	for (let i = 0; i < 2; i++)
		t.strictSame(await run({ ...variables, CNI_COMMAND: "DEL" }, () => config), { status: 0 });
	const note = { network: "fairway", containerId: "abc123", ifName: "eth0" };
	t.same(await notedDeletions(runDir), [note]);
	t.same(readdirSync(join(runDir, "deletions")), ["fairway,abc123,eth0.json"], "and no other file");
});

t.test("an agent that returns after the note was written deletes immediately", async (t) => {
	const runDir = directory(t);
	const socket = join(runDir, "agent.sock");
	const notes: number[] = [];
	// It ends during the first request, and is back for the second.
	const agent = createServer(async (request, response) => {
		notes.push((await notedDeletions(runDir)).length);
		if (notes.length === 1) request.socket.destroy();
		else response.end(JSON.stringify({ status: 0 }));
	});
	agent.listen(socket);
	await once(agent, "listening");
	t.teardown(() => agent.close());
	const config = JSON.stringify({ ...good, socket });
	t.strictSame(await run({ ...variables, CNI_COMMAND: "DEL" }, () => config), { status: 0 });
	t.same(notes, [0, 1], "the note was there when the agent was asked again");
	t.same(await notedDeletions(runDir), []);
});

/* ------------------------------------------------------ what is asked */

t.test("a request is parsed", async (t) => {
	const config = {
		...good,
		cniVersion: "1.1.0",
		"cni.dev/valid-attachments": [{ containerID: "a", ifname: "eth0" }],
	};
	const request = { command: "GC", containerId: "", netns: "", ifName: "", args: "", config };
	t.same(parseRequest(request).config.validAttachments, [{ containerId: "a", ifName: "eth0" }]);
	const empty = { ...config, "cni.dev/valid-attachments": null };
	t.same(parseRequest({ ...request, config: empty }).config.validAttachments, []);
	t.equal(parseRequest(request).config.socket, "/run/fairway/agent.sock");
	const add = {
		...request,
		command: "ADD",
		containerId: "c",
		netns: "/n",
		ifName: "eth0",
		args: "K8S_POD_NAME=web;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_UID=;",
	};
	t.same(parseRequest(add), {
		command: "ADD",
		config: {
			cniVersion: "1.1.0",
			name: "fairway",
			socket: "/run/fairway/agent.sock",
			validAttachments: [{ containerId: "a", ifName: "eth0" }],
		},
		attachment: {
			network: "fairway",
			containerId: "c",
			ifName: "eth0",
			netns: "/n",
			namespace: "default",
			name: "web",
		},
	});
});

/* ------------------------------------------------------ what is answered */

const endpoint: Endpoint = {
	network: "fairway",
	containerId: "abc123",
	ifName: "eth0",
	netns: "/run/netns/pod",
	addresses: ["10.244.1.2", "fd00::2"],
	gateways: ["10.244.1.1", "fd00::1"],
	mac: "02:00:00:00:00:02",
	hostInterface: "fairway00000001",
	mtu: 1450,
	attachedAt: "2026-01-01T00:00:00.000Z",
};

t.test("the result in the format of each version", async (t) => {
	const hostMac = "02:00:00:00:00:01";
	const dns = { nameservers: ["10.96.0.10"] };
	const routes = [
		{ dst: "0.0.0.0/0", gw: "10.244.1.1" },
		{ dst: "::/0", gw: "fd00::1" },
	];
	t.strictSame(addResult(endpoint, hostMac, { cniVersion: "1.1.0" }), {
		cniVersion: "1.1.0",
		interfaces: [
			{ name: "fairway00000001", mac: hostMac, mtu: 1450 },
			{ name: "eth0", mac: "02:00:00:00:00:02", mtu: 1450, sandbox: "/run/netns/pod" },
		],
		ips: [
			{ interface: 1, address: "10.244.1.2/32", gateway: "10.244.1.1" },
			{ interface: 1, address: "fd00::2/128", gateway: "fd00::1" },
		],
		routes,
		dns: {},
	});
	const interfaces = [
		{ name: "fairway00000001", mac: hostMac },
		{ name: "eth0", mac: "02:00:00:00:00:02", sandbox: "/run/netns/pod" },
	];
	t.strictSame(addResult(endpoint, hostMac, { cniVersion: "1.0.0", dns }).interfaces, interfaces);
	t.strictSame(addResult(endpoint, hostMac, { cniVersion: "1.0.0", dns }).dns, dns);
	for (const cniVersion of ["0.3.1", "0.4.0"] as const) {
		t.strictSame(addResult(endpoint, hostMac, { cniVersion }).ips, [
			{ version: "4", interface: 1, address: "10.244.1.2/32", gateway: "10.244.1.1" },
			{ version: "6", interface: 1, address: "fd00::2/128", gateway: "fd00::1" },
		]);
	}
	const prevResult = {
		interfaces: [{ name: "lo", sandbox: "/run/netns/pod" }],
		ips: [{ address: "127.0.0.1/8", interface: 0 }],
		routes: [{ dst: "127.0.0.0/8" }],
		dns,
	};
	const chained = addResult(endpoint, hostMac, { cniVersion: "1.0.0", prevResult });
	t.strictSame(chained.interfaces, [...prevResult.interfaces, ...interfaces]);
	t.match(chained.ips, [prevResult.ips[0], { interface: 2 }, { interface: 2 }]);
	t.strictSame(chained.routes, [...prevResult.routes, ...routes]);
	t.strictSame(chained.dns, dns);
});

t.test("names and MACs depend only on the key", async (t) => {
	const names = hostInterfaceNames("abc123", "eth0");
	t.equal(names.length, 8);
	t.ok(names.every(isPodInterface));
	t.ok(names.every((name) => name.length <= 15));
	t.same(names, hostInterfaceNames("abc123", "eth0"));
	t.notOk(names.includes(hostInterfaceNames("abc123", "eth1")[0]!));
	t.match(podMac(endpoint), /^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
});

t.test("the documented error codes are complete", async (t) => {
	const readme = readFileSync(new URL("../../src/cni/README.md", import.meta.url), "utf8");
	const section = readme.slice(readme.indexOf("## Error codes"));
	const documented = [...section.matchAll(/^\| (\d+) +\|/gm)].map((match) => Number(match[1]));
	t.same(documented, Object.values(ErrorCode));
	t.same(errorObject(new Error("boom"), "1.0.0"), { cniVersion: "1.0.0", code: 5, msg: "boom" });
});

/** Fairway's own plugin, run as by a container runtime: its exact answers, with and without an agent. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSocketServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { ApiServer, RequestError } from "../../src/api/server.js";
import { monotonicMs, readNotes } from "../../src/cni/deletions.js";
import { errorObject } from "../../src/cni/errors.js";
import type { CniRequest } from "../../src/cni/protocol.js";
import { answerVersion, parseRequest } from "../../src/cni/request.js";
import { plugin, runPlugin, sanitizedPlugin } from "../tools/cni_plugin.js";

const good = { cniVersion: "1.0.0", name: "fairway", type: "fairway-cni" };
const variables = {
	CNI_COMMAND: "ADD",
	CNI_CONTAINERID: "abc123",
	CNI_NETNS: "/run/netns/pod",
	CNI_IFNAME: "eth0",
	CNI_PATH: "/opt/cni/bin",
};
const del = { ...variables, CNI_COMMAND: "DEL" };

/** No agent listens there, and its directory does not exist. */
const nowhere = join(tmpdir(), "fairway-no-such-directory", "agent.sock");

function directory(t: { teardown(remove: () => void): void }): string {
	const made = mkdtempSync(join(tmpdir(), "fairway-cni-"));
	t.teardown(() => rmSync(made, { recursive: true, force: true }));
	return made;
}

/** What execFileSync throws. */
function failureOf(work: () => unknown): unknown {
	try {
		work();
	} catch (error) {
		return error;
	}
	return undefined;
}

/** Checks calls as the agent does, and does nothing. */
function checked(request: unknown): { status: number; body: unknown } {
	try {
		parseRequest(request as CniRequest);
		return { status: 200, body: { status: 0 } };
	} catch (error) {
		const { config } = request as CniRequest;
		return { status: 200, body: { status: 1, body: errorObject(error, answerVersion(config)) } };
	}
}

interface Row {
	what: string;
	variables?: Record<string, string | undefined>;
	/** Merged into the valid configuration; a string replaces the whole input. */
	config?: object | string;
	status?: 0 | 1;
	body: unknown;
	/**
	 * Who refuses it. By default the plugin, so the answer is the same with and without an agent; what only the
	 * agent checks is to be tried again without one.
	 */
	by?: "agent" | "absence";
}

const error = (cniVersion: string, code: number, msg: string): object => ({
	cniVersion,
	code,
	msg,
});
const id = "1 to 128 letters, digits, '_', '.' or '-', a letter or digit first";
const netName = "1 to 64 letters, digits, '_', '.' or '-', a letter or digit first";
const notJson = "Cannot read the network configuration: expected JSON: wrong at byte ";
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
		by: "agent",
		config: { ipam: { type: "host-local" } },
		body: error(
			"1.0.0",
			2,
			'Cannot use "ipam": expected none (addresses come from the Node\'s pod CIDRs), got {"type":"host-local"}',
		),
	},
	{
		what: "a wanted MAC",
		by: "agent",
		config: { runtimeConfig: { mac: "02:00:00:00:00:01" } },
		body: error(
			"1.0.0",
			2,
			'Cannot use "runtimeConfig.mac": expected none (Fairway assigns addresses itself), got "02:00:00:00:00:01"',
		),
	},
	{
		what: "CHECK without prevResult",
		by: "agent",
		variables: { CNI_COMMAND: "CHECK" },
		body: error("1.0.0", 7, 'Cannot check the attachment: "prevResult" is missing'),
	},
	{
		what: "a prevResult with a wrong list",
		by: "agent",
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
		by: "agent",
		variables: { CNI_NETNS: undefined },
		body: error(
			"1.0.0",
			4,
			"Cannot use CNI_NETNS: expected the absolute path of a network namespace, got nothing",
		),
	},
	{
		what: "a namespace with a space, which iproute2 would take apart",
		by: "agent",
		variables: { CNI_NETNS: "/run/netns/a b" },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_NETNS: expected the absolute path of a network namespace, got "/run/netns/a b"',
		),
	},
	{
		what: "CNI_ARGS that are none",
		by: "agent",
		variables: { CNI_ARGS: "IgnoreUnknown" },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_ARGS: expected KEY=VALUE;KEY=VALUE, got "IgnoreUnknown"',
		),
	},
	{
		what: "ADD without an agent is to be tried again",
		by: "absence",
		body: error(
			"1.0.0",
			11,
			`Cannot reach the agent at ${nowhere}: no such socket (is the agent running, and with this --run-dir?)`,
		),
	},
	{
		what: "STATUS without an agent",
		by: "absence",
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
		by: "absence",
		variables: { CNI_COMMAND: "DEL", CNI_NETNS: undefined },
		status: 0,
		body: undefined,
	},
	{
		what: "GC where no agent has ever run",
		by: "absence",
		variables: { CNI_COMMAND: "GC", CNI_CONTAINERID: undefined },
		config: { cniVersion: "1.1.0", "cni.dev/valid-attachments": null },
		status: 0,
		body: undefined,
	},
	{
		what: "a socket whose path the kernel cannot take",
		config: { socket: `/${"s".repeat(107)}` },
		body: error(
			"1.0.0",
			7,
			`Cannot use "socket": expected a path of at most 107 bytes, got "/${"s".repeat(107)}"`,
		),
	},
	{
		what: "a long value is cut between two characters",
		config: { name: "é".repeat(100) },
		body: error("1.0.0", 7, `Cannot use "name": expected ${netName}, got "${"é".repeat(58)}...`),
	},
	{
		what: "a name that is escaped is that name, and the last of several counts",
		config: '{"cniVersion":"1.0.0","name":"x","socket":1,"n\\u0061me":"../\\ud83d\\ude00"}',
		body: error("1.0.0", 7, `Cannot use "name": expected ${netName}, got "../\\ud83d\\ude00"`),
	},
	{
		what: "a variable with control characters",
		variables: { CNI_COMMAND: 'A\u0001\t"' },
		body: error(
			"1.0.0",
			4,
			'Cannot use CNI_COMMAND: expected ADD, DEL, CHECK, STATUS, GC or VERSION, got "A\\u0001\\u0009\\""',
		),
	},
	{
		what: "a document behind the configuration",
		config: '{"cniVersion":"1.0.0"},"command":"DEL"',
		body: error("1.1.0", 6, `${notJson}22`),
	},
	{
		what: "lists inside each other without end",
		config: "[".repeat(500_000),
		body: error("1.1.0", 6, `${notJson}101`),
	},
	{
		what: "more input than any configuration",
		config: " ".repeat(1024 * 1024 + 1),
		body: error("1.1.0", 5, "Cannot read standard input: expected at most 1048576 bytes, got more"),
	},
];

t.test("calls", async (t) => {
	const runDir = directory(t);
	const agent = await ApiServer.open(runDir, { "POST /cni": checked });
	t.teardown(() => agent.close());
	for (const { what, variables: changes, config, status = 1, body, by } of rows) {
		await t.test(what, async (t) => {
			const call = (socket: string) => {
				const whole = JSON.stringify({ ...good, socket, ...(config as object) });
				const input = typeof config === "string" ? config : whole;
				return runPlugin({ ...variables, ...changes }, input);
			};
			if (by !== "absence") {
				const answer = await call(agent.socketPath);
				t.strictSame([answer.status, answer.body, answer.stderr], [status, body, ""]);
			}
			const answer = await call(nowhere);
			if (by === "agent") t.match(answer, { status: 1, body: { code: 11 } });
			else t.strictSame([answer.status, answer.body, answer.stderr], [status, body, ""]);
		});
	}
});

t.test("VERSION names every supported version, whichever was asked", async (t) => {
	for (const cniVersion of ["0.1.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "9.9"]) {
		const answer = await runPlugin({ CNI_COMMAND: "VERSION" }, JSON.stringify({ cniVersion }));
		t.strictSame(answer.body, { cniVersion, supportedVersions: versions });
	}
});

t.test("standard input that cannot be read", async (t) => {
	const command = `exec "$0" <&-`;
	const broken = () =>
		execFileSync("sh", ["-c", command, plugin], { env: variables, encoding: "utf8" });
	t.match(failureOf(broken), { status: 1, stdout: /"code":5,"msg":"Cannot read standard input: / });
});

t.test("it needs nothing on the Node", async (t) => {
	const root = directory(t);
	copyFileSync(plugin, join(root, "fairway-cni"));
	const input = '{"cniVersion":"1.0.0","name":"fairway"}';
	const inside = (command: string) =>
		execFileSync("chroot", [root, "/fairway-cni"], {
			...{ input, env: { ...process.env, ...variables, CNI_COMMAND: command }, encoding: "utf8" },
		});
	t.match(JSON.parse(inside("VERSION")), { cniVersion: "1.0.0", supportedVersions: versions });
	t.match(
		failureOf(() => inside("ADD")),
		{ status: 1, stdout: /"code":11,.*: no such socket/ },
	);
	t.equal(inside("DEL"), "");
	const ldd = failureOf(() => execFileSync("ldd", [plugin], { encoding: "utf8", stdio: "pipe" }));
	t.match(ldd, { stderr: /not a dynamic executable/ });
});

/* ------------------------------------------------------ with something that answers */

t.test("the agent gets the parameters, and its answer is printed unchanged", async (t) => {
	const runDir = directory(t);
	let asked: unknown;
	const answer = { status: 1, body: { cniVersion: "1.0.0", code: 100, msg: "m\n\u{1f6a2}" } };
	const server = await ApiServer.open(runDir, {
		"POST /cni": (body) => {
			asked = body;
			return { status: 200, body: answer };
		},
	});
	t.teardown(() => server.close());
	const config = {
		...good,
		socket: server.socketPath,
		extra: [{ '"\\': -1.5e-3 }, null, "\u{1f6a2}"],
	};
	const args = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=w"\t\\é';
	const given = { ...variables, CNI_ARGS: args };
	const { status, body } = await runPlugin(given, JSON.stringify(config, undefined, 2));
	t.strictSame({ status, body }, answer);
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
	const refuse = () => {
		throw new RequestError(413, 'Cannot "read"');
	};
	const server = await ApiServer.open(directory(t), { "POST /cni": refuse });
	t.teardown(() => server.close());
	const config = JSON.stringify({ ...good, socket: server.socketPath });
	for (const CNI_COMMAND of ["ADD", "DEL"]) {
		const answer = await runPlugin({ ...variables, CNI_COMMAND }, config);
		const msg = 'Cannot get an answer from the agent: Cannot "read"';
		t.match(answer, { status: 1, body: { code: 11, msg } });
	}
	t.same(await readNotes(join(server.socketPath, "..")), [], "it is there: no note");
});

t.test("DEL while the agent is down leaves a note, once", async (t) => {
	const runDir = directory(t);
	const config = JSON.stringify({ ...good, socket: join(runDir, "agent.sock") });
	const before = monotonicMs();
	for (let i = 0; i < 2; i++)
		t.match(await runPlugin(del, config), { status: 0, stdout: "", stderr: "" });
	const [note] = await readNotes(runDir);
	t.same(note?.remove, { network: "fairway", containerId: "abc123", ifName: "eth0" });
	t.ok(note!.at >= before && note!.at <= monotonicMs(), "it says when the call began");
	t.same(readdirSync(join(runDir, "deletions")), ["fairway,abc123,eth0.json"], "and no other file");
});

t.test("GC while the agent is down leaves a note, the last one in force", async (t) => {
	const runDir = directory(t);
	const gc = { CNI_COMMAND: "GC" };
	const config = { ...good, cniVersion: "1.1.0", socket: join(runDir, "agent.sock") };
	const collect = (list: unknown) =>
		runPlugin(gc, JSON.stringify({ ...config, "cni.dev/valid-attachments": list }));
	t.match(await collect([{ containerID: 1 }]), { status: 1, body: { code: 7 } });
	t.same(await readNotes(runDir), [], "a list that is broken removes nothing");
	t.match(await collect([]), { status: 0, stdout: "" });
	t.match(await collect([{ containerID: "a", ifname: "eth0" }]), { status: 0, stdout: "" });
	t.match(
		(await readNotes(runDir)).map(({ remove }) => remove),
		[{ network: "fairway", valid: [{ containerId: "a", ifName: "eth0" }] }],
	);
});

t.test("notes of what the agent has no record of are limited in number", async (t) => {
	const runDir = directory(t);
	const file = sanitizedPlugin();
	const config = JSON.stringify({ ...good, socket: join(runDir, "agent.sock") });
	const call = (id: string) => runPlugin({ ...del, CNI_CONTAINERID: id }, config, { file });
	const ids = async () =>
		(await readNotes(runDir)).map(({ remove }) => "containerId" in remove && remove.containerId);
	for (const id of ["a", "b", "c", "d", "e", "f", "g"])
		t.match(await call(id), { status: 0, stderr: "" });
	t.equal((await ids()).length, 4);
	mkdirSync(join(runDir, "endpoints"));
	writeFileSync(join(runDir, "endpoints", "broken.json.0.new"), "{");
	const record = { network: "fairway", containerId: "known", ifName: "eth0" };
	writeFileSync(join(runDir, "endpoints", "fairway1.json"), JSON.stringify(record));
	t.equal((await call("unknown")).status, 0);
	t.equal((await call("known")).status, 0);
	t.same((await ids()).sort(), ["a", "b", "c", "d", "known"]);
	writeFileSync(join(runDir, "endpoints", "fairway2.json"), "{");
	t.equal((await call("lost")).status, 0);
	t.ok((await ids()).includes("lost"), "a broken record may be that of any attachment");
});

t.test("a note that cannot be written fails the call", async (t) => {
	const runDir = directory(t);
	writeFileSync(join(runDir, "deletions"), "");
	const config = JSON.stringify({ ...good, socket: join(runDir, "agent.sock") });
	t.match(await runPlugin(del, config), {
		status: 1,
		body: { code: 5, msg: /^Cannot write .*deletions.*: Not a directory$/ },
	});
});

t.test("an agent that returns after the note was written deletes immediately", async (t) => {
	const runDir = directory(t);
	const socket = join(runDir, "agent.sock");
	const notes: number[] = [];
	// It ends during the first request, and is back for the second.
	const agent = createServer(async (request, response) => {
		notes.push((await readNotes(runDir)).length);
		if (notes.length === 1) request.socket.destroy();
		else response.end(JSON.stringify({ status: 0 }));
	});
	agent.listen(socket);
	await once(agent, "listening");
	t.teardown(() => agent.close());
	t.match(await runPlugin(del, JSON.stringify({ ...good, socket })), { status: 0, stdout: "" });
	t.same(notes, [0, 1], "the note was there when the agent was asked again");
	t.same(await readNotes(runDir), []);
});

/* ------------------------------------------------------ hostile input */

t.test("an agent that answers nonsense", async (t) => {
	const runDir = directory(t);
	const socket = join(runDir, "agent.sock");
	const file = sanitizedPlugin();
	let reply: (socket: Socket) => void = () => {};
	const agent = createSocketServer((client) => {
		client.on("error", () => {});
		reply(client);
	});
	agent.listen(socket);
	await once(agent, "listening");
	t.teardown(() => agent.close());
	const call = (how: typeof reply) => {
		reply = how;
		return runPlugin(variables, JSON.stringify({ ...good, socket }), { file });
	};
	const head = "HTTP/1.1 200 OK\r\n\r\n";
	const said = (text: string | Uint8Array) => call((client) => client.end(text));
	const closed = /the agent closed the connection without an answer$/;
	const foreign = /the answer is not an agent's$/;
	const answers: [what: string, text: string | Uint8Array, msg: RegExp][] = [
		["nothing", "", closed],
		["half a status line", "HTTP/1.", closed],
		["headers without an end", `HTTP/1.1 200 OK\r\na: ${"b".repeat(5000)}`, closed],
		["half an answer", `${head}{"status":0,"body":{"a"`, closed],
		["another protocol", "220 mail ready\r\n\r\n", foreign],
		["a status of letters", "HTTP/1.1 abc OK\r\n\r\n{}", foreign],
		["HTML", `${head}<html>`, foreign],
		["two answers", `${head}{"status":0}{"status":0}`, foreign],
		["bytes", Buffer.concat([Buffer.from(`${head}"`), Buffer.from([0xff, 0x22])]), foreign],
		["an answer without status", `${head}{}`, foreign],
		["a list", `${head}[0]`, foreign],
		["no answer but an empty error", "HTTP/1.1 500 No\r\n\r\n{}", foreign],
		["an endless answer", `${head}"${"a".repeat(1 << 20)}`, foreign],
	];
	for (const [what, text, msg] of answers)
		t.match(await said(text), { status: 1, stderr: "", body: { code: 11, msg } }, what);
	t.match(
		await call(() => {}),
		{ status: 1, stderr: "", body: { code: 11, msg: /no answer within 500 ms$/ } },
		"silence",
	);
});

t.test("a call never hangs", async (t) => {
	const file = sanitizedPlugin();
	t.match(await runPlugin(variables, "{", { file, endless: true }), {
		status: 1,
		body: { code: 5, msg: "Cannot read standard input: it does not end" },
	});
});

t.test("mutilated calls end with an answer", async (t) => {
	const file = sanitizedPlugin();
	let seed = 12345;
	const random = (below: number) => {
		seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
		return Math.floor((seed / 2 ** 32) * below);
	};
	const list = [
		{ containerID: "a", ifname: "eth0" },
		{ containerID: "é", ifname: "\\u0000" },
	];
	const config = {
		...good,
		cniVersion: "1.1.0",
		socket: nowhere,
		"cni.dev/valid-attachments": list,
	};
	const whole = Buffer.from(JSON.stringify(config));
	const odd = Buffer.from('{}[]",:\\u\0\x01\x7f\x80\xc3\xed\xa0\xf4\xff 0-.eE+tfn', "latin1");
	const commands = ["ADD", "DEL", "GC", "CHECK", "STATUS", "VERSION", ""];
	for (let i = 0; i < 400; i++) {
		const input = Buffer.from(whole);
		for (let k = random(4); k >= 0; k--) input[random(input.length)] = odd[random(odd.length)]!;
		const cut = random(3) === 0 ? input.subarray(0, random(input.length)) : input;
		const CNI_COMMAND = commands[random(commands.length)]!;
		const answer = await runPlugin({ ...variables, CNI_COMMAND }, cut, { file });
		const ends = answer.status === 0 || (answer.status === 1 && answer.body !== undefined);
		if (!ends || answer.stderr !== "") t.fail(JSON.stringify([CNI_COMMAND, `${cut}`, answer]));
	}
});

/**
 * The lab itself, mostly without Fairway: the assumptions of the other tests.
 *
 *   pod1a pod1b  pod2a pod2b          pod3a pod3b  pod4a pod4b
 *      node1        node2                node3        node4
 *        └──── net1 ──┘                    └──── net2 ──┘
 *                 └─────────── router ───────────┘
 *                                 │
 *                              outside
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import t from "tap";
import { Lab } from "../../src/lab/lab.js";
import { processesIn, run } from "../../src/lab/namespace.js";
import { allPairs, kinds } from "../../src/lab/pairs.js";
import { pingAll } from "../../src/lab/reach.js";
import { root } from "../../src/lab/repository.js";
import { allStates, isAbandoned, remove } from "../../src/lab/state.js";
import { until } from "../../src/lab/until.js";
import { Capture } from "../tools/capture.js";
import { plainNetwork } from "../tools/plain_network.js";
import { wirePackets } from "../tools/wire.js";

const name = `fwl-${process.pid}`;
const namespaces = (prefix: string): string[] =>
	existsSync("/run/netns") ? readdirSync("/run/netns").filter((n) => n.startsWith(prefix)) : [];

t.test("a lab with plain kernel routes", async (t) => {
	const lab = await Lab.up({ name, network: plainNetwork });
	t.teardown(() => lab.down());

	t.test("all machines reach each other, over both families", async (t) => {
		const reaches = await pingAll(lab);
		t.same(
			new Set(reaches.map(({ pair }) => pair.kind)),
			new Set(Object.keys(kinds)),
			"every kind of pair is there",
		);
		t.equal(reaches.length, allPairs(lab).length);
		t.same(
			reaches.filter(({ roundTrip }) => roundTrip === undefined),
			[],
		);
	});

	t.test("traffic is verified, and the wire carries whole packets with checksums", async (t) => {
		const capture = await Capture.start(lab, "node3");
		t.teardown(() => capture.remove());
		const [client, server] = [await lab.station("pod1a"), await lab.station("pod3a")];
		await server.order("tcpServe", { port: 5000 });
		await server.order("udpServe", { port: 5001 });
		for (const family of [4, 6] as const) {
			const host = lab.address("pod3a", family);
			const sent = await client.order("tcpSend", { host, port: 5000, bytes: 3_000_000, seed: 1 });
			t.match(sent, { whole: true, bytes: 3_000_000, address: lab.address("pod1a", family) });
			const sizes = [1, 1400, 1472, 1473, 8000, 60_000];
			t.same(await client.order("udpExchange", { host, port: 5001, sizes, seed: 2 }), {
				missing: [],
				corrupt: [],
				retried: [],
			});
		}
		await capture.stop();
		const packets = (await wirePackets(capture.file)).filter((p) => p.protocol === "tcp");
		t.ok(packets.length > 4172, `${packets.length} TCP packets, none of them a super-packet`);
		t.same([...new Set(packets.flatMap((p) => p.badChecksums))], []);
		t.ok(packets.every((p) => p.length <= 1514));
	});

	t.test("a numbered stream shows exactly what is lost", async (t) => {
		const [client, server] = [await lab.station("pod1a"), await lab.station("pod2a")];
		await server.order("udpServe", { port: 5002 });
		const target = { host: lab.address("pod2a", 4), port: 5002 };
		const { stream } = await client.order("udpStream", { ...target, rate: 1000 });
		const received = async (): Promise<number> =>
			(await server.order("udpReport", { port: 5002, stream })).received;
		await until("the stream flows", async () => (await received()) > 100);
		const rule = [
			"add table inet test",
			"add chain inet test in { type filter hook input priority 0; }",
		];
		rule.push("add rule inet test in udp dport 5002 counter drop");
		await lab.run("pod2a", ["nft", "-f", "-"], { input: `${rule.join("\n")}\n` });
		await until("packets dropped", async () => {
			const { stdout } = await lab.run("pod2a", ["nft", "list", "ruleset"]);
			return Number(/counter packets (\d+)/.exec(stdout)?.[1]) > 10;
		});
		const before = await received();
		await lab.run("pod2a", ["nft", "flush", "ruleset"]);
		await until("the stream flows again", async () => (await received()) > before + 100);
		const { sent, returned } = await client.order("udpStop", { stream });
		const report = await server.order("udpReport", { port: 5002, stream });
		t.equal(report.expected, sent);
		t.equal(report.received, returned);
		t.ok(report.missing.length > 0, `${report.missing.length} were dropped`);
		t.equal(report.missing.length, sent - report.received);
		const [first = 0] = report.missing;
		t.same(
			report.missing,
			Array.from(report.missing, (_, i) => first + i),
			"one gap",
		);
	});

	t.test("a second lab runs beside it and is removed alone", async (t) => {
		const other = await Lab.up({ name: `${name}-b`, network: plainNetwork });
		await other.down();
		t.same(namespaces(`${name}-b-`), []);
		t.notOk(allStates().some((state) => state.name === other.name));
		const { stdout } = await lab.run("pod1a", ["ping", "-c1", lab.address("pod4b", 6)]);
		t.match(stdout, "1 received");
	});

	t.test("a lab's name is unique", async (t) => {
		await t.rejects(Lab.up({ name, network: plainNetwork }), /expected none of that name/);
		t.ok(namespaces(name).length > 0);
	});
	t.end();
});

t.test("nothing is left", async (t) => {
	t.same(namespaces(`${name}-`), []);
	t.notOk(allStates().some((state) => state.name === name));
});

t.test("leftovers of a killed lab are found and removed", async (t) => {
	const victim = `${name}-v`;
	const program = `
		import { Lab } from "${root}/src/lab/lab.ts";
		import { plainNetwork } from "${root}/test/tools/plain_network.ts";
		const lab = await Lab.up({ name: "${victim}", network: plainNetwork });
		const station = await lab.station("pod1a");
		process.stdout.write("up");
	`;
	const child = spawn(process.execPath, ["--import=tsx", "--input-type=module", "-e", program], {
		cwd: root,
		stdio: ["ignore", "pipe", "inherit"],
	});
	await once(child.stdout, "data");
	const left = namespaces(`${victim}-`);
	t.ok(left.length >= 16);
	child.kill("SIGKILL");
	await once(child, "exit");
	const state = allStates().find((known) => known.name === victim);
	t.ok(state && isAbandoned(state));
	if (state) await remove(state);
	t.same(namespaces(`${victim}-`), []);
	t.same(processesIn(left), []);
});

t.test("a lab that is interrupted while it starts leaves nothing", async (t) => {
	// At different moments: before namespaces exist, while some exist, with agents.
	for (const [i, moment] of [/Nodes/, /agents/, /Pods/].entries()) {
		const ended = `${name}-e${i}`;
		const child = spawn(`${root}/bin/fairway`, ["lab", "up", "--name", ended], {
			stdio: ["ignore", "pipe", "inherit"],
			env: { ...process.env, NODE_OPTIONS: "" },
		});
		let said = "";
		child.stdout.setEncoding("utf8").on("data", (text: string) => {
			said += text;
		});
		await until(`${moment}`, () => moment.test(said), 60_000);
		child.kill("SIGTERM");
		const [status] = await once(child, "exit");
		t.equal(status, 143);
		t.same(namespaces(`${ended}-`), [], `at ${moment}`);
		t.notOk(allStates().some((state) => state.name === ended));
		t.notOk(existsSync(`/sys/fs/bpf/fairway-lab/${ended}`), "no pins");
	}
});

t.test("wrong usage is explained", async (t) => {
	const lab = async (...words: string[]): Promise<[number, string]> => {
		const { status, stderr } = await run([`${root}/bin/fairway`, "lab", ...words], {
			mayFail: true,
		});
		return [status ?? -1, stderr];
	};
	for (const [words, status, message] of [
		[["up", "--manifests", "/nowhere"], 1, /expected a directory of manifests, got ENOENT/],
		[["up", "--name", "No Good"], 2, /Cannot name a lab "No Good"/],
		[["sideways"], 2, /Usage: fairway lab/],
		[["exec"], 2, /expected a machine and a command/],
		[["exec", "--name", `${name}-none`, "pod1a", "true"], 1, /Cannot find lab/],
		[["ping", "--name", `${name}-none`], 1, /Cannot find lab/],
	] as const)
		t.match(await lab(...words), [status, message], words.join(" "));
	t.equal((await lab("exec", "--help"))[0], 0);
	t.notOk(
		allStates().some((state) => state.manifests === "/nowhere"),
		"nothing was begun",
	);
});

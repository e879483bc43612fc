/**
 * Services on real devices and by real sockets: what a packet test's skb does not have (checksums that the
 * kernel has yet to finish, GSO, the kernel's own checks of what it receives) is there.
 *
 *   a Pod's namespace: pod0-end ── pod0 (from_pod, to_pod) ┐
 *                                                          ├ Node: processes, servers
 *                      kernel's routes → fairway0 (from_host) ┘
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readlinkSync } from "node:fs";
import { text } from "node:stream/consumers";
import t from "tap";
import type { BpfLink } from "#native";
import { until } from "../../src/lab/until.js";
import { DropReason, Hook } from "../../src/tables/generated.js";
import { DataPath } from "./data_path.js";
import { FAMILIES } from "./fast_path.js";
import { inNamespace, ipBatch } from "./namespace.js";
import { NAMES, Scene, TCP, UDP } from "./service_scene.js";
import { SERVICE_PORT, TARGET_PORT } from "./services.js";
import * as world from "./world.js";

const { podA, gateway, nodeAddress } = world;
const SERVICE_CIDRS = { 4: "10.96.0.0/16", 6: "fd00:10:96::/64" } as const;

/** Sends "hello" to host and port, and prints how that ends: an error's code, or what comes back. */
const CLIENT = `
	const [kind, host, port, length] = process.argv.slice(1);
	const done = (what) => { console.log(what); process.exit(0); };
	setTimeout(() => done("nothing"), 60_000);
	if (kind === "tcp") {
		let received = 0;
		const data = Buffer.alloc(Number(length), 0x61);
		const socket = require("node:net").connect(Number(port), host, () => socket.write(data));
		socket.on("error", ({ code }) => done(code));
		socket.on("data", (some) => {
			received += some.length;
			if (received > data.length) done(some.subarray(some.length - (received - data.length)).toString());
		});
	} else {
		const socket = require("node:dgram").createSocket(host.includes(":") ? "udp6" : "udp4");
		socket.on("error", ({ code }) => done(code));
		socket.connect(Number(port), host, () => socket.send("hello"));
		socket.on("message", (some) => done(some.toString()));
	}
`;

/** Echoes what a TCP client sends and then says who it is: after `length` bytes. */
const SERVER = `
	const [port, length] = process.argv.slice(1);
	require("node:net").createServer((socket) => {
		let received = 0;
		socket.on("error", () => {});
		socket.on("data", (some) => {
			received += some.length;
			socket.write(some);
			if (received === Number(length)) socket.write(" " + socket.remoteAddress.replace("::ffff:", "") + " " + socket.remotePort);
		});
	}).listen(Number(port), "::", () => console.log("ready"));
	const udp = require("node:dgram").createSocket("udp6");
	udp.on("message", (_, { address, port }) => udp.send(address.replace("::ffff:", "") + " " + port, port, address));
	udp.bind(Number(port));
`;

/** More than one segment, so that packets are GSO. */
const BYTES = 200_000;

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	const children: ChildProcess[] = [];
	const links: BpfLink[] = [];
	const end = `${podA.interface}-end`;
	const own = spawn("unshare", ["--net", "sleep", "infinity"]);
	children.push(own);
	const inPod = (command: string[]) => ["nsenter", `--net=/proc/${own.pid}/ns/net`, ...command];
	const execute = async ([program, ...rest]: string[]): Promise<string> => {
		const child = spawn(program!, rest, { stdio: ["ignore", "pipe", "inherit"] });
		return (await text(child.stdout)).trim();
	};
	const node = (source: string, ...rest: (string | number)[]) => [
		process.execPath,
		"-e",
		source,
		...rest.map(String),
	];
	const serve = async (wrap: (command: string[]) => string[]): Promise<void> => {
		const [program, ...rest] = wrap(node(SERVER, TARGET_PORT, BYTES));
		const child = spawn(program!, rest, { stdio: ["ignore", "pipe", "inherit"] });
		children.push(child);
		await new Promise((resolve) => child.stdout.once("data", resolve));
	};

	t.before(async () => {
		const here = readlinkSync("/proc/self/ns/net");
		await until("the Pod's namespace", () => {
			try {
				return readlinkSync(`/proc/${own.pid}/ns/net`) !== here;
			} catch {
				return false;
			}
		});
		ipBatch([`link set ${end} netns ${own.pid}`, "link set fairway0 arp off"]);
		const inside = (command: string) => execute(inPod(["ip", ...command.split(" ")]));
		await inside(`link set ${end} address ${podA.mac} up`);
		await inside("link set lo up");
		for (const family of FAMILIES) {
			const flag = family === 6 ? " nodad" : "";
			await inside(`address add ${podA[family]}/${family === 4 ? 32 : 128} dev ${end}${flag}`);
			await inside(`route add ${gateway[family]} dev ${end}`);
			await inside(`-${family} route add default via ${gateway[family]} dev ${end} onlink`);
			await inside(
				`neighbour add ${gateway[family]} lladdr ${world.GATEWAY_MAC} dev ${end} nud permanent`,
			);
			const { returnAddress4, returnAddress6 } = world.nodeConfig();
			ipBatch([
				`route add ${SERVICE_CIDRS[family]} dev fairway0 src ${gateway[family]}`,
				`route add ${family === 4 ? returnAddress4 : returnAddress6} dev fairway0 src ${nodeAddress[family]}`,
			]);
		}
		links.push(
			dataPath.attach(Hook.FROM_POD, world.indexOf(podA.interface), "tcx_ingress"),
			dataPath.attach(Hook.TO_POD, world.indexOf(podA.interface), "tcx_egress"),
			dataPath.attach(Hook.FROM_HOST, world.indexOf("fairway0"), "tcx_egress"),
		);
		await serve((command) => command);
		await serve(inPod);
	});
	t.teardown(() => {
		for (const child of children) child.kill("SIGKILL");
		for (const link of links) link.close();
		dataPath.close();
	});

	const clients = [
		["a Pod", inPod],
		["the Node", (command: string[]) => command],
	] as const;
	for (const family of FAMILIES)
		for (const [client, wrap] of clients) {
			const ask = (kind: "tcp" | "udp", host: string) =>
				execute(wrap(node(CLIENT, kind, host, SERVICE_PORT, BYTES)));
			t.test(`IPv${family}, ${client}: a Service without endpoints refuses TCP`, async (t) => {
				const scene = await Scene.begin(dataPath, family);
				t.equal(await ask("tcp", scene.service("empty", TCP).clusterIP), "ECONNREFUSED");
				t.equal(dataPath.drops(DropReason.SERVICE_NO_ENDPOINTS), 1n, "at once");
			});
			for (const [name, address, seen] of [
				["that Pod", podA[family], client === "a Pod" ? gateway[family] : undefined],
				["the Node", nodeAddress[family], client === "a Pod" ? podA[family] : "return"],
			] as const)
				for (const [protocol, kind] of [
					[TCP, "tcp"],
					[UDP, "udp"],
				] as const) {
					// A server that leaves its address to the kernel answers a Pod from the gateway address here,
					// which no proxy has translated.
					const isUnbound = family === 6 && kind === "udp" && client === "a Pod";
					if (isUnbound && name === "the Node") continue;
					t.test(
						`IPv${family}, ${client}: ${NAMES[protocol]} to ${name} by a Service`,
						async (t) => {
							const scene = await Scene.begin(dataPath, family);
							const service = scene.service("mixed", protocol);
							scene.only(service, address);
							const { returnAddress4, returnAddress6 } = scene.tables.config;
							const returns = family === 4 ? returnAddress4 : returnAddress6;
							const expected = seen === "return" ? returns : (seen ?? gateway[family]);
							const [who, port] = (await ask(kind, service.clusterIP)).split(" ");
							t.equal(who, expected, "whole, and back");
							t.ok(Number(port) > 0);
						},
					);
				}
		}
}

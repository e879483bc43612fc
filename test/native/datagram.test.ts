/** Messages to a Unix datagram socket arrive whole, and name their sender. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { BpfError, sendDatagram } from "#native";
import { until } from "../../src/lab/until.js";

const directory = mkdtempSync(join(tmpdir(), "fairway-datagram-"));
t.teardown(() => rmSync(directory, { recursive: true }));

function listen(t: Test, address: string): { child: ChildProcess; text: () => string } {
	const child = spawn("socat", ["-u", address, "-"], { stdio: ["ignore", "pipe", "inherit"] });
	let text = "";
	child.stdout?.setEncoding("utf8").on("data", (data) => (text += data));
	t.teardown(async () => {
		child.kill();
		await once(child, "close");
	});
	return { child, text: () => text };
}

t.test("a path", async (t) => {
	const path = join(directory, "notify");
	t.throws(() => sendDatagram(path, "READY=1"), {
		name: BpfError.name,
		code: "ENOENT",
		message: `Cannot send a datagram to socket ${path}: ENOENT (No such file or directory)`,
	});
	const { text } = listen(t, `UNIX-RECV:${path}`);
	await until("the socket is there", async () => existsSync(path));
	sendDatagram(path, "READY=1\n");
	sendDatagram(path, "STATUS=größer\n");
	await until("both have arrived", async () => text() === "READY=1\nSTATUS=größer\n");
});

t.test("an abstract name", async (t) => {
	const name = `fairway-${process.pid}`;
	const { text } = listen(t, `ABSTRACT-RECV:${name}`);
	const isThere = () => readFileSync("/proc/net/unix", "utf8").includes(`@${name}`);
	await until("the socket is there", async () => isThere());
	sendDatagram(`@${name}`, "WATCHDOG=1\n");
	await until("it has arrived", async () => text() === "WATCHDOG=1\n");
});

t.test("what cannot be an address, and what nobody takes", async (t) => {
	t.throws(() => sendDatagram("", "x"), { name: "RangeError" });
	const long = "/".repeat(108);
	t.throws(() => sendDatagram(long, "x"), { name: "RangeError", message: /at most 107 bytes/ });
	t.throws(() => sendDatagram(undefined as unknown as string, "x"), { name: "TypeError" });
	t.throws(() => sendDatagram("/run/x", 1 as unknown as string), { name: "TypeError" });
	const file = join(directory, "file");
	writeFileSync(file, "");
	t.throws(() => sendDatagram(file, "x"), { code: "ECONNREFUSED" });
});

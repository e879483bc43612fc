/** The agent under a service manager with a real notification socket: start, watchdog, reload, end. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { command } from "../../src/lab/repository.js";
import { until } from "../../src/lab/until.js";
import { startCluster } from "../tools/cluster.js";

const WATCHDOG_MS = 900;

t.test("the agent tells the service manager", async (t) => {
	const { lab } = await startCluster(t, { trafficEncapMode: "hybrid", tunnelType: "geneve" });
	const agent = lab.agent("node1");
	await agent.stop("SIGTERM");

	const directory = mkdtempSync(join(tmpdir(), "fairway-notify-"));
	t.teardown(() => rmSync(directory, { recursive: true }));
	const socket = join(directory, "notify");
	const listener: ChildProcess = spawn("socat", ["-u", `UNIX-RECV:${socket}`, "-"], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	let heard = "";
	listener.stdout?.setEncoding("utf8").on("data", (text) => (heard += text));
	t.teardown(async () => {
		listener.kill();
		await once(listener, "close");
	});
	await until("the socket is there", () => existsSync(socket));
	const lines = () => heard.split("\n").slice(0, -1);
	/** Lines that begin so. */
	const count = (start: string) => lines().filter((line) => line.startsWith(start)).length;

	// What systemd starts: WATCHDOG_PID is that of the process that the shell becomes.
	const program = command("fairway", directory);
	mkdirSync(join(directory, "bin"));
	const variables = `NOTIFY_SOCKET=${socket} WATCHDOG_USEC=${WATCHDOG_MS * 1000} WATCHDOG_PID=$$`;
	writeFileSync(program, `#!/bin/sh\nexport ${variables}\nexec ${command("fairway")} "$@"\n`);
	chmodSync(program, 0o755);
	await agent.start(directory);
	await until("it is ready", () => count("READY=1") === 1);
	t.ok(lines().indexOf("STATUS=starting") < lines().indexOf("READY=1"));
	t.match(lines()[0], /^EXTEND_TIMEOUT_USEC=\d+$/);
	await until("the watchdog is fed again", () => count("WATCHDOG=1") > 1);
	await until("peers and Pods are counted", () =>
		lines().some((line) => /^STATUS=forwarding in mode hybrid: \d+ peers, \d+ Pods$/.test(line)),
	);

	const { pid } = await agent.status();
	const environment = await lab.namespace("node1").run(["cat", `/proc/${pid}/environ`]);
	t.match(environment.stdout, "NOTIFY_SOCKET", "it was started with it");
	process.kill(pid, "SIGHUP");
	await until("the reload is over", () => count("RELOADING=1") === 1 && count("READY=1") === 2);
	t.match(lines()[lines().indexOf("RELOADING=1") + 1], /^MONOTONIC_USEC=\d+$/);
	t.equal((await agent.status()).pid, pid, "the same process");

	await agent.stop("SIGTERM");
	await until("its end is announced", () => count("STOPPING=1") === 1);
	t.equal(lines().at(-1), "STATUS=stopping; forwarding continues", "nothing after it");
	await agent.start();
	t.equal(count("READY=1"), 2, "without a service manager");
});

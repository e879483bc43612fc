import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
	chmodSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	rmSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import t from "tap";
import { AgentUnreachableError, ApiError, agentSocket, ask, call } from "../../src/api/client.js";
import { ApiServer, type Handler, type Handlers, RequestError } from "../../src/api/server.js";
import { DirectoryLock } from "../../src/linux/lock.js";

/** Handlers that record the request's body, or answer as a row requires. */
const handlers: Handlers = {
	"GET /hello": () => ({ status: 200, body: { hello: "world" } }),
	"POST /echo": (body) => ({ status: 200, body }),
	"GET /nothing": () => ({ status: 204, body: undefined }),
	"GET /refuse": () => {
		throw new RequestError(409, "Cannot do it: expected another day, it is today");
	},
	"GET /broken": () => {
		throw new TypeError("boom");
	},
	"GET /never": () => new Promise(() => undefined),
};

const handlersOfThis: Record<string, Handler> = {};

function runDirectory(test: { teardown(remove: () => void): void }): string {
	const directory = mkdtempSync(join(tmpdir(), "fairway-api-"));
	test.teardown(() => rmSync(directory, { recursive: true, force: true }));
	return join(directory, "deep", "run");
}

t.test("requests and answers", async (t) => {
	const runDir = runDirectory(t);
	const errors: string[] = [];
	const server = await ApiServer.open(runDir, handlers, {
		bodyMax: 1000,
		onError: (error, request) => errors.push(`${request}: ${(error as Error).message}`),
	});
	t.teardown(() => server.close());
	const socket = agentSocket(runDir);
	t.equal(socket, server.socketPath);
	t.equal(statSync(socket).mode & 0o777, 0o600, "only its owner may open the socket");

	t.strictSame(await call(socket, "GET", "/hello"), { status: 200, body: { hello: "world" } });
	t.strictSame(await ask(socket, "GET", "/hello?x=1"), { hello: "world" });
	const body = { text: "Größe", list: [1, null, { a: true }] };
	t.strictSame(await ask(socket, "POST", "/echo", { body }), body);
	t.strictSame(await call(socket, "GET", "/nothing"), { status: 204, body: undefined });

	t.match(await call(socket, "GET", "/else"), {
		status: 404,
		body: { error: /expected one of GET/ },
	});
	t.match(await call(socket, "GET", "/echo"), {
		status: 405,
		body: { error: /expected POST \/echo/ },
	});
	await t.rejects(ask(socket, "GET", "/refuse"), {
		name: "ApiError",
		status: 409,
		message: "Cannot do it: expected another day, it is today",
	});
	t.strictSame(errors, [], "a refusal is no error of the agent");
	await t.rejects(ask(socket, "GET", "/broken"), new ApiError(500, "boom"));
	t.strictSame(errors, ["GET /broken: boom"]);

	const long = await call(socket, "POST", "/echo", { body: "x".repeat(2000) });
	t.match(long, { status: 413, body: { error: "expected at most 1000 bytes" } });
	t.strictSame(await ask(socket, "GET", "/hello"), { hello: "world" }, "and it still answers");
});

t.test("a body that is not JSON", async (t) => {
	const runDir = runDirectory(t);
	const server = await ApiServer.open(runDir, handlers);
	t.teardown(() => server.close());
	const { request } = await import("node:http");
	const exchange = request({ socketPath: server.socketPath, method: "POST", path: "/echo" });
	exchange.end("{oops");
	const [response] = await once(exchange, "response");
	t.equal(response.statusCode, 400);
	t.match((await response.toArray()).join(""), /expected JSON/);
});

t.test("no agent, a dead, a silent and a foreign one", async (t) => {
	const runDir = runDirectory(t);
	const socket = agentSocket(runDir);
	await t.rejects(call(socket, "GET", "/hello"), { code: "ENOENT", message: socket });

	const server = await ApiServer.open(runDir, handlers);
	await t.rejects(call(socket, "GET", "/never", { timeoutMs: 50 }), {
		code: "ETIMEDOUT",
		message: "no answer within 50 ms",
	});
	await server.close(0);
	t.notOk(existsSync(socket), "an agent that ends removes its socket");

	const dead = await deadSocket(socket);
	await t.rejects(call(dead, "GET", "/hello"), { code: "ECONNREFUSED" });
	rmSync(dead);

	const foreign = createServer((connection) => connection.end("SSH-2.0-OpenSSH_9.2\r\n"));
	foreign.listen(socket);
	await once(foreign, "listening");
	t.teardown(() => foreign.close());
	await t.rejects(call(socket, "GET", "/hello"), AgentUnreachableError);
});

t.test("a request in progress is answered before the server closes", async (t) => {
	const runDir = runDirectory(t);
	let answer: (() => void) | undefined;
	const asked = new Promise<void>((arrived) => {
		handlersOfThis["GET /slow"] = () =>
			new Promise((resolve) => {
				answer = () => resolve({ status: 200, body: "done" });
				arrived();
			});
	});
	const server = await ApiServer.open(runDir, handlersOfThis);
	const answered = ask(server.socketPath, "GET", "/slow");
	await asked;
	const closed = server.close();
	await t.rejects(call(server.socketPath, "GET", "/slow"), { code: "ENOENT" });
	answer?.();
	t.equal(await answered, "done");
	await closed;
});

t.test("another user cannot keep an agent from its run directory", async (t) => {
	const runDir = runDirectory(t);
	mkdirSync(runDir, { recursive: true });
	chmodSync(dirname(dirname(runDir)), 0o755);
	// As an earlier version left it: open for reading, which is all that flock(2) asks for.
	chmodSync(runDir, 0o755);
	await (await ApiServer.open(runDir, handlers)).close();
	const nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
	const holder = spawn("setpriv", [...nobody, "flock", runDir, "sh", "-c", "echo held; cat"]);
	t.teardown(() => holder.kill());
	await once(holder.stdout, "data");
	const asNobody = (...args: string[]) => spawnSync("setpriv", [...nobody, ...args]).status;
	t.not(asNobody("flock", "--nonblock", join(runDir, "lock"), "true"), 0);
	const server = await ApiServer.open(runDir, handlers);
	t.strictSame(await ask(agentSocket(runDir), "GET", "/hello"), { hello: "world" });
	await server.close();
	holder.kill();

	chmodSync(join(runDir, "lock"), 0o644);
	t.throws(() => DirectoryLock.take(runDir), {
		message: `Cannot lock ${runDir}: expected the lock to be closed to other users, got mode 644, user 0`,
	});
	const fresh = join(runDir, "fresh");
	DirectoryLock.take(fresh)?.release();
	t.equal(statSync(fresh).mode & 0o777, 0o700, "a directory that it makes is root's alone");
});

t.test("one agent a run directory", async (t) => {
	const runDir = runDirectory(t);
	const socket = agentSocket(runDir);
	const first = await ApiServer.open(runDir, handlers);
	await t.rejects(ApiServer.open(runDir, handlers), {
		message: `Cannot use the run directory ${runDir}: it is locked by another agent`,
	});
	t.strictSame(
		await ask(socket, "GET", "/hello"),
		{ hello: "world" },
		"the first is not disturbed",
	);
	await first.close();

	await deadSocket(socket);
	const lock = DirectoryLock.take(runDir);
	t.ok(lock, "an agent that ended holds nothing");
	t.equal(DirectoryLock.take(runDir), undefined, "one process has it, or none");
	lock?.release();
	const many = await Promise.allSettled(
		Array.from({ length: 8 }, () => ApiServer.open(runDir, handlers)),
	);
	const won = many.filter((one) => one.status === "fulfilled").map((one) => one.value);
	t.equal(won.length, 1, "of eight that find a dead agent's socket, one takes its place");
	t.strictSame(await ask(socket, "GET", "/hello"), { hello: "world" });
	await won[0]?.close();

	writeFileSync(socket, "");
	const over = await ApiServer.open(runDir, handlers);
	t.strictSame(await ask(socket, "GET", "/hello"), { hello: "world" }, "a plain file is no agent");
	await over.close();

	await t.rejects(ApiServer.open(`/tmp/${"x".repeat(120)}`, handlers), {
		message: /expected a path of at most 107 bytes, got 136/,
	});
});

/** A socket whose process was killed. */
async function deadSocket(path: string): Promise<string> {
	const child: ChildProcess = spawn(
		process.execPath,
		[
			"-e",
			`require("net").createServer().listen(${JSON.stringify(path)}, () => console.log("up"))`,
		],
		{ stdio: ["ignore", "pipe", "inherit"] },
	);
	await once(child.stdout!, "data");
	child.kill("SIGKILL");
	await once(child, "exit");
	return path;
}

t.test("a client that closes the connection ends its request", async (t) => {
	const runDir = runDirectory(t);
	let begin = () => {};
	let end: (reason: unknown) => void = () => {};
	const began = new Promise<void>((resolve) => (begin = resolve));
	const ended = new Promise<unknown>((resolve) => (end = resolve));
	const errors: unknown[] = [];
	const server = await ApiServer.open(
		runDir,
		{
			"POST /check": (_, signal) => {
				begin();
				return new Promise((_, reject) => {
					signal.addEventListener("abort", () => {
						end(signal.reason);
						reject(signal.reason);
					});
				});
			},
			"GET /hello": () => ({ status: 200, body: "hello" }),
		},
		{ onError: (error) => errors.push(error) },
	);
	t.teardown(() => server.close());
	const { request } = await import("node:http");
	const exchange = request({ socketPath: server.socketPath, method: "POST", path: "/check" });
	exchange.on("error", () => undefined);
	exchange.end();
	await began;
	exchange.destroy();
	t.match(await ended, { message: "The client closed the connection" });
	t.equal(await ask(server.socketPath, "GET", "/hello"), "hello");
	t.strictSame(errors, [], "which is no error of the agent");
});

t.test(
	"an answer with ten thousand entries leaves turns of the event loop to others",
	async (t) => {
		const runDir = runDirectory(t);
		const list = Array.from({ length: 10_000 }, (_, number) => ({ number, text: "x".repeat(300) }));
		const server = await ApiServer.open(runDir, {
			"GET /list": () => ({ status: 200, body: list }),
		});
		t.teardown(() => server.close());
		let turns = 0;
		let counting = true;
		const count = () => {
			turns++;
			if (counting) setImmediate(count);
		};
		count();
		t.strictSame(await ask(server.socketPath, "GET", "/list"), list);
		counting = false;
		t.ok(turns >= 100, `${turns} turns`);
	},
);

/**
 * The lab's traffic program. It runs in a machine's network namespace, reads orders (orders.ts) from
 * standard input, and exits when that is closed.
 */
import { createCipheriv, createHash } from "node:crypto";
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createConnection, createServer, isIPv4, type Server, type Socket as Tcp } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { bulkReport, bulkServe, bulkStart, bulkStop } from "./bulk.js";
import type {
	Orders,
	TcpReceipt,
	TcpResult,
	TcpSend,
	UdpExchange,
	UdpExchangeResult,
	UdpTarget,
} from "./orders.js";
import { Tally } from "./tally.js";

type Name = keyof Orders;
type Handlers = { [N in Name]: (order: Orders[N]["order"]) => Promise<Orders[N]["answer"]> };

/** A numbered datagram: this word, the stream, the number. */
const NUMBERED = 0xfa1a_0001;
const NUMBERED_BYTES = 12;
const NO_PMTU_DISCOVERY = "/proc/sys/net/ipv4/ip_no_pmtu_disc";

interface Stream {
	socket: Socket;
	timer: NodeJS.Timeout;
	sent: number;
	echo: Tally;
}

const servers = new Map<number, Server | Socket>();
const tallies = new Map<string, Tally>();
const streams = new Map<number, Stream>();

const handlers: Handlers = {
	async tcpServe({ port }) {
		const server = createServer({ allowHalfOpen: true }, receive);
		server.listen(port, "::");
		await once(server, "listening");
		servers.set(port, server);
		return { port };
	},

	tcpSend,

	async udpServe({ port, fragmentable = false }) {
		const socket = createSocket({ type: "udp6", recvBufferSize: 4 << 20 });
		socket.on("message", (message, from) => answer(socket, port, message, from));
		socket.on("error", (error) => process.stderr.write(`udp server: ${error.message}\n`));
		await bind(socket, port, "::", fragmentable);
		servers.set(port, socket);
		return { port };
	},

	async udpReport({ port, stream }) {
		return (tallies.get(`${port} ${stream}`) ?? new Tally()).report();
	},

	udpExchange,

	async udpWho({ timeoutMs = 1000, connected = false, ...target }) {
		const socket = await openSocket(target);
		try {
			const { host, port: asked } = target;
			const isFromThere = (_: Buffer, { address, port }: RemoteInfo) =>
				!connected || (address === host && port === asked);
			const reply = firstMessage(socket, isFromThere, timeoutMs);
			socket.send("who", target.port, target.host);
			const [address = "", port] = (await reply).toString().split(" ");
			return { address, port: Number(port) };
		} finally {
			socket.close();
		}
	},

	async udpStream({ rate, size = 64, ...target }) {
		const socket = await openSocket(target);
		const stream = Math.floor(Math.random() * 2 ** 32);
		const start = process.hrtime.bigint();
		const state: Stream = {
			socket,
			sent: 0,
			echo: new Tally(),
			timer: setInterval(() => {
				const due = Math.floor((Number(process.hrtime.bigint() - start) / 1e9) * rate);
				while (state.sent < due)
					socket.send(numbered(stream, state.sent++, size), target.port, target.host);
			}, 1),
		};
		socket.on("message", (message, from) => {
			if (message.length >= NUMBERED_BYTES) state.echo.add(message.readUInt32BE(8), from);
		});
		streams.set(stream, state);
		return { stream };
	},

	async udpStop({ stream }) {
		const state = running(stream);
		clearInterval(state.timer);
		// Waits for echoes in flight, also of a receiver that waits for a CPU, but not for lost ones.
		for (let quiet = 0; quiet < 40 && state.echo.received < state.sent; quiet++) {
			const before = state.echo.received;
			await delay(30);
			if (state.echo.received !== before) quiet = 0;
		}
		state.socket.close();
		streams.delete(stream);
		return { sent: state.sent, returned: state.echo.received, echo: state.echo.report() };
	},

	async udpEcho({ stream }) {
		return running(stream).echo.report();
	},

	async udpSend({ payload, ...target }) {
		const socket = await openSocket(target);
		await send(socket, Buffer.from(payload, "base64"), target);
		socket.close();
		return { sent: 1 };
	},

	async udpFlood({ sources, ...target }) {
		for (const localAddress of sources) {
			const socket = await openSocket({ ...target, localAddress });
			await send(socket, Buffer.from("flood"), target);
			socket.close();
		}
		return { sent: sources.length };
	},

	async bulkServe({ port }) {
		servers.set(port, await bulkServe(port));
		return { port };
	},

	async bulkStart(target) {
		return { stream: await bulkStart(target) };
	},

	async bulkReport({ stream }) {
		return bulkReport(stream);
	},

	async bulkStop({ stream }) {
		bulkStop(stream);
		return { stream };
	},

	async close({ port }) {
		servers.get(port)?.close();
		servers.delete(port);
		return { port };
	},
};

function receive(connection: Tcp): void {
	const hash = createHash("sha256");
	let bytes = 0;
	connection.on("data", (chunk: Buffer) => {
		hash.update(chunk);
		bytes += chunk.length;
	});
	connection.on("error", () => connection.destroy());
	connection.on("end", () => {
		const receipt: TcpReceipt = {
			bytes,
			sha256: hash.digest("hex"),
			address: plain(connection.remoteAddress ?? ""),
			port: connection.remotePort ?? 0,
			server: plain(connection.localAddress ?? ""),
		};
		connection.end(JSON.stringify(receipt));
	});
}

async function tcpSend(order: TcpSend): Promise<TcpResult> {
	const { host, port, localAddress, localPort, bytes, seed, rate, timeoutMs = 30_000 } = order;
	const start = process.hrtime.bigint();
	const elapsed = (): number => Number(process.hrtime.bigint() - start) / 1e6;
	const connection = createConnection({
		host,
		port,
		...(localAddress === undefined ? {} : { localAddress }),
		...(localPort === undefined ? {} : { localPort }),
	});
	const timer = setTimeout(
		() => connection.destroy(new Error(`TCP to ${host} ${port}: no progress in ${timeoutMs} ms`)),
		timeoutMs,
	);
	try {
		await once(connection, "connect");
		timer.refresh();
		const hash = createHash("sha256");
		const content = pseudoRandom(seed);
		let answer = "";
		connection.setEncoding("utf8").on("data", (text: string) => (answer += text));
		const end = once(connection, "end");
		end.catch(() => undefined);
		const chunkBytes = rate === undefined ? 65536 : Math.min(65536, Math.ceil(rate / 100));
		for (let sent = 0; sent < bytes; ) {
			const chunk = content(Math.min(chunkBytes, bytes - sent));
			hash.update(chunk);
			sent += chunk.length;
			if (!connection.write(chunk)) await once(connection, "drain");
			timer.refresh();
			if (rate !== undefined) await delay(Math.max(0, (sent / rate) * 1000 - elapsed()));
		}
		connection.end();
		await end;
		const receipt = JSON.parse(answer) as TcpReceipt;
		const whole = receipt.bytes === bytes && receipt.sha256 === hash.digest("hex");
		return { ...receipt, whole, milliseconds: elapsed() };
	} finally {
		clearTimeout(timer);
		connection.destroy();
	}
}

function answer(socket: Socket, port: number, message: Buffer, from: RemoteInfo): void {
	const { address } = from;
	if (message.length >= NUMBERED_BYTES && message.readUInt32BE(0) === NUMBERED) {
		const key = `${port} ${message.readUInt32BE(4)}`;
		const tally = tallies.get(key) ?? new Tally();
		tallies.set(key, tally);
		tally.add(message.readUInt32BE(8), { ...from, address: plain(address) });
	}
	const who = message.length === 3 && message.toString() === "who";
	socket.send(who ? `${plain(address)} ${from.port}` : message, from.port, address);
}

async function udpExchange(order: UdpExchange): Promise<UdpExchangeResult> {
	const { sizes, seed, timeoutMs = 1000, tries = 3, ...target } = order;
	const result: UdpExchangeResult = { missing: [], corrupt: [], retried: [] };
	const content = pseudoRandom(seed);
	const socket = await openSocket(target);
	for (const size of sizes) {
		const sent = content(size);
		let reply: Buffer | undefined;
		for (let attempt = 0; attempt < tries && reply === undefined; attempt++) {
			if (attempt === 1) result.retried.push(size);
			const wait = firstMessage(socket, ({ length }) => length === size, timeoutMs);
			wait.catch(() => undefined);
			// EMSGSIZE: the kernel has just learned the path MTU and fragments the next try.
			await send(socket, sent, target).catch(() => undefined);
			reply = await wait.catch(() => undefined);
		}
		if (reply === undefined) result.missing.push(size);
		else if (!reply.equals(sent)) result.corrupt.push(size);
	}
	socket.close();
	return result;
}

function running(stream: number): Stream {
	const state = streams.get(stream);
	if (state === undefined) throw new Error(`there is no stream ${stream}`);
	return state;
}

async function openSocket(target: UdpTarget): Promise<Socket> {
	const { host, localAddress, localPort = 0, fragmentable = false } = target;
	const socket = createSocket({ type: isIPv4(host) ? "udp4" : "udp6", recvBufferSize: 4 << 20 });
	// ICMP errors arrive here; the missing echoes show the same.
	socket.on("error", () => undefined);
	await bind(socket, localPort, localAddress, fragmentable);
	return socket;
}

/**
 * Node.js cannot set IP_MTU_DISCOVER. A socket takes it from the namespace's sysctl when it is created,
 * which is when it is bound.
 */
async function bind(
	socket: Socket,
	port: number,
	address: string | undefined,
	fragmentable: boolean,
): Promise<void> {
	const bound = once(socket, "listening");
	const before = fragmentable ? readFileSync(NO_PMTU_DISCOVERY) : undefined;
	if (fragmentable) writeFileSync(NO_PMTU_DISCOVERY, "1");
	try {
		socket.bind(port, address);
		await bound;
	} finally {
		if (before !== undefined) writeFileSync(NO_PMTU_DISCOVERY, before);
	}
}

function send(socket: Socket, message: Buffer, { host, port }: UdpTarget): Promise<void> {
	return new Promise((resolve, reject) => {
		socket.send(message, port, host, (error) => (error ? reject(error) : resolve()));
	});
}

function firstMessage(
	socket: Socket,
	wanted: (message: Buffer, sender: RemoteInfo) => boolean,
	timeoutMs: number,
): Promise<Buffer> {
	return new Promise((resolve, reject) => {
		const onMessage = (message: Buffer, sender: RemoteInfo): void => {
			if (wanted(message, sender)) finish(() => resolve(message));
		};
		const timer = setTimeout(
			() => finish(() => reject(new Error(`no answer in ${timeoutMs} ms`))),
			timeoutMs,
		);
		function finish(act: () => void): void {
			clearTimeout(timer);
			socket.off("message", onMessage);
			act();
		}
		socket.on("message", onMessage);
	});
}

function numbered(stream: number, number: number, size: number): Buffer {
	const message = Buffer.alloc(Math.max(size, NUMBERED_BYTES));
	message.writeUInt32BE(NUMBERED, 0);
	message.writeUInt32BE(stream, 4);
	message.writeUInt32BE(number, 8);
	return message;
}

/** The same bytes for the same seed, at gigabytes a second: AES in counter mode. */
function pseudoRandom(seed: number): (size: number) => Buffer {
	const key = Buffer.alloc(16);
	key.writeUInt32BE(seed >>> 0);
	const cipher = createCipheriv("aes-128-ctr", key, Buffer.alloc(16));
	return (size) => cipher.update(Buffer.alloc(size));
}

function plain(address: string): string {
	return address.replace(/^::ffff:(?=\d+\.)/, "");
}

async function obey(line: string): Promise<void> {
	const { id, name, order } = JSON.parse(line) as { id: number; name: Name; order: never };
	try {
		const answer = await handlers[name](order);
		process.stdout.write(`${JSON.stringify({ id, answer })}\n`);
	} catch (error) {
		process.stdout.write(`${JSON.stringify({ id, error: (error as Error).message })}\n`);
	}
}

createInterface({ input: process.stdin })
	.on("line", obey)
	.on("close", () => process.exit());
process.stdout.write(`${JSON.stringify({ id: 0, answer: {} })}\n`);

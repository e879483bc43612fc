/**
 * The traffic program of the lab: runs in a machine's network namespace, takes orders (orders.ts)
 * on standard input and ends with it.
 */
import { createCipheriv, createHash } from "node:crypto";
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import { createConnection, createServer, isIPv4, type Server, type Socket as Tcp } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import type {
	Orders,
	TcpReceipt,
	TcpResult,
	TcpSend,
	UdpExchange,
	UdpExchangeResult,
	UdpReport,
	UdpTarget,
} from "./orders.js";

type Name = keyof Orders;
type Handlers = { [N in Name]: (order: Orders[N]["order"]) => Promise<Orders[N]["answer"]> };

/** A numbered datagram: this word, the stream, the number. */
const NUMBERED = 0xfa1a_0001;
const NUMBERED_BYTES = 12;

/** What has come of one numbered stream. */
class Tally {
	private readonly seen = new Set<number>();
	private readonly senders = new Set<string>();
	private highest = -1;
	private duplicates = 0;
	private late = 0;

	add(number: number, { address, port }: RemoteInfo): void {
		if (this.seen.has(number)) this.duplicates++;
		if (number < this.highest) this.late++;
		this.seen.add(number);
		this.senders.add(`${address} ${port}`);
		this.highest = Math.max(this.highest, number);
	}

	report(): UdpReport {
		const missing: number[] = [];
		for (let n = 0; n <= this.highest && missing.length < 100; n++)
			if (!this.seen.has(n)) missing.push(n);
		return {
			received: this.seen.size,
			expected: this.highest + 1,
			missing,
			duplicates: this.duplicates,
			late: this.late,
			senders: [...this.senders],
		};
	}
}

interface Stream {
	socket: Socket;
	timer: NodeJS.Timeout;
	sent: number;
	returned: Set<number>;
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

	async udpServe({ port }) {
		const socket = createSocket({ type: "udp6", recvBufferSize: 4 << 20 });
		socket.on("message", (message, from) => answer(socket, port, message, from));
		socket.on("error", (error) => process.stderr.write(`udp server: ${error.message}\n`));
		socket.bind(port, "::");
		await once(socket, "listening");
		servers.set(port, socket);
		return { port };
	},

	async udpReport({ port, stream }) {
		return (tallies.get(`${port} ${stream}`) ?? new Tally()).report();
	},

	udpExchange,

	async udpWho({ timeoutMs = 1000, ...target }) {
		const socket = await openSocket(target);
		try {
			const reply = firstMessage(socket, () => true, timeoutMs);
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
			returned: new Set(),
			timer: setInterval(() => {
				const due = Math.floor((Number(process.hrtime.bigint() - start) / 1e9) * rate);
				while (state.sent < due)
					socket.send(numbered(stream, state.sent++, size), target.port, target.host);
			}, 1),
		};
		socket.on("message", (message) => {
			if (message.length >= NUMBERED_BYTES) state.returned.add(message.readUInt32BE(8));
		});
		streams.set(stream, state);
		return { stream };
	},

	async udpStop({ stream }) {
		const state = streams.get(stream);
		if (state === undefined) throw new Error(`there is no stream ${stream}`);
		clearInterval(state.timer);
		// What is on its way is waited for; what is lost is not.
		for (let quiet = 0; quiet < 10 && state.returned.size < state.sent; quiet++) {
			const before = state.returned.size;
			await delay(30);
			if (state.returned.size !== before) quiet = 0;
		}
		state.socket.close();
		streams.delete(stream);
		return { sent: state.sent, returned: state.returned.size };
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
		() => connection.destroy(new Error(`TCP to ${host} ${port} not done in ${timeoutMs} ms`)),
		timeoutMs,
	);
	try {
		await once(connection, "connect");
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
			// EMSGSIZE tells of a path MTU just learned: the next try is fragmented.
			await send(socket, sent, target).catch(() => undefined);
			reply = await wait.catch(() => undefined);
		}
		if (reply === undefined) result.missing.push(size);
		else if (!reply.equals(sent)) result.corrupt.push(size);
	}
	socket.close();
	return result;
}

async function openSocket({ host, localAddress, localPort }: UdpTarget): Promise<Socket> {
	const socket = createSocket({ type: isIPv4(host) ? "udp4" : "udp6", recvBufferSize: 4 << 20 });
	// ICMP errors come back here; what they say shows in what does not come back.
	socket.on("error", () => undefined);
	const bound = once(socket, "listening");
	socket.bind(localPort ?? 0, localAddress);
	await bound;
	return socket;
}

function send(socket: Socket, message: Buffer, { host, port }: UdpTarget): Promise<void> {
	return new Promise((resolve, reject) => {
		socket.send(message, port, host, (error) => (error ? reject(error) : resolve()));
	});
}

function firstMessage(
	socket: Socket,
	wanted: (message: Buffer) => boolean,
	timeoutMs: number,
): Promise<Buffer> {
	return new Promise((resolve, reject) => {
		const onMessage = (message: Buffer): void => {
			if (wanted(message)) finish(() => resolve(message));
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

// echo.mjs serve PORT: a TCP server that sends back what it gets.
// echo.mjs connect ADDRESS PORT FILE: one connection to it, a byte every 10 ms, until SIGINT; then FILE is
// {sent, received, longestGapMs, error}. It makes no second connection: error is why the first one ended, or null.
import { renameSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";

const [, , verb, ...args] = process.argv;

function serve(port) {
	createServer({ noDelay: true }, (socket) => {
		socket.on("error", () => socket.destroy());
		socket.pipe(socket);
	}).listen(port, "::");
}

function hold(host, port, file) {
	const result = { sent: 0, received: 0, longestGapMs: 0, error: null };
	let last = Date.now();
	const write = () => {
		writeFileSync(`${file}.new`, JSON.stringify(result));
		renameSync(`${file}.new`, file);
	};
	const socket = connect({ host, port, noDelay: true });
	socket.on("connect", () => {
		last = Date.now();
		writeFileSync(`${file}.pid`, `${process.pid}\n`);
		setInterval(() => {
			if (socket.writable) result.sent += socket.write("x") ? 1 : 0;
		}, 10).unref();
	});
	socket.on("data", (data) => {
		const now = Date.now();
		result.longestGapMs = Math.max(result.longestGapMs, now - last);
		last = now;
		result.received += data.length;
	});
	socket.on("error", (error) => {
		result.error = error.code;
	});
	socket.on("close", () => {
		result.error ??= "closed";
		write();
		// Whoever asks for the result ends this process.
		setInterval(() => {}, 1 << 30);
	});
	process.on("SIGINT", () => {
		result.longestGapMs = Math.max(result.longestGapMs, Date.now() - last);
		if (result.error === null) write();
		process.exit();
	});
}

if (verb === "serve") serve(Number(args[0]));
else hold(args[0], Number(args[1]), args[2]);

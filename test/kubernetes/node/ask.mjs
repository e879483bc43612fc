// ask.mjs PATIENCE_MS [PROTOCOL ADDRESS PORT]...: asks agnhost's netexec at each of these for its name, at the same time.
// Prints a JSON array of the answers, in order; "": none.
import { createSocket } from "node:dgram";
import { connect } from "node:net";

const [patience, ...words] = process.argv.slice(2);
const AGAIN_MS = 400;

function byTcp(host, port) {
	return new Promise((resolve) => {
		let text = "";
		const socket = connect({ host, port }, () => socket.end("GET /hostname HTTP/1.0\r\n\r\n"));
		socket.setEncoding("utf8").on("data", (part) => {
			text += part;
		});
		socket.on("error", () => resolve(""));
		socket.on("close", () => resolve(/^HTTP\S+ 200.*\r\n\r\n(\S*)$/s.exec(text)?.[1] ?? ""));
	});
}

/** Datagrams get lost where many are asked at once: it asks again. */
function byUdp(host, port) {
	return new Promise((resolve) => {
		const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
		socket.on("error", () => {});
		socket.on("message", (text) => resolve(text.toString()));
		socket.connect(port, host, () => {
			const send = () => socket.send("hostname", () => {});
			send();
			setInterval(send, AGAIN_MS);
		});
	});
}

const answers = [];
const all = [];
for (let at = 0; at < words.length; at += 3) {
	const [protocol, host, port] = words.slice(at, at + 3);
	const index = answers.push("") - 1;
	const answer = (protocol === "TCP" ? byTcp : byUdp)(host, Number(port));
	all.push(
		answer.then((text) => {
			answers[index] = text;
		}),
	);
}
await Promise.race([Promise.all(all), new Promise((end) => setTimeout(end, Number(patience)))]);
process.stdout.write(JSON.stringify(answers), () => process.exit());

/** A process with a ring buffer that ends in the way that its argument names. */
import { Worker } from "node:worker_threads";
import { RingBuffer } from "#native";
import { frame, loadObject } from "../fixture.js";

const object = loadObject();
const map = object.map("ring");
const program = object.program("emit");
const emit = (count: number) => program.testRun({ data: frame(), repeat: count });
const say = (text: string) => process.stdout.write(`${text}\n`);

const ways: Record<string, () => void> = {
	/** Only the ring keeps the loop going until the timer fires. */
	open() {
		let received = 0;
		const ring = new RingBuffer(map, () => {
			if (++received < 3) return;
			say(`received ${received}`);
			ring.close();
		});
		setTimeout(() => emit(3), 20).unref();
	},
	closed() {
		const ring = new RingBuffer(map, () => {});
		setImmediate(() => ring.close());
		process.on("exit", () => say("ends"));
	},
	unref() {
		new RingBuffer(map, () => {}).unref();
		process.on("exit", () => say("ends"));
	},
	exit() {
		new RingBuffer(map, () => {
			say("exits");
			process.exit(0);
		});
		emit(3);
	},
	/** An exception in a callback is an uncaught one; the records after it come. */
	throw() {
		let received = 0;
		const ring = new RingBuffer(map, () => {
			const error = new Error(`boom ${received}`);
			if (++received === 3) ring.close();
			throw error;
		});
		process.on("uncaughtException", (error) => say(`caught ${error.message}`));
		emit(3);
	},
	uncaught() {
		new RingBuffer(map, () => {
			throw new Error("boom");
		});
		emit(1);
	},
	"worker-exit": () => worker("process.exit(0)"),
	"worker-terminate": () => worker("parentPort.postMessage('stop')"),
};

/** A worker whose ring is open, and has records, when it ends. */
function worker(onRecord: string) {
	const code = `
		const { parentPort, workerData } = require("node:worker_threads");
		import(workerData.native).then(({ BpfMap, RingBuffer }) => {
			new RingBuffer(BpfMap.openId(workerData.map), () => { ${onRecord} });
			parentPort.postMessage("ready");
		});`;
	const native = new URL("../../../native/index.js", import.meta.url).href;
	const thread = new Worker(code, {
		eval: true,
		execArgv: [],
		workerData: { native, map: map.info.id },
	});
	thread.on("message", (message) => {
		if (message === "ready") return emit(100);
		thread.removeAllListeners("message");
		return thread.terminate();
	});
	thread.on("error", (error) => say(error.message));
	thread.on("exit", (status) => say(`worker ended with ${status}`));
}

ways[process.argv[2] ?? ""]!();

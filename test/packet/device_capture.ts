/** Captures the frames that leave by a device: reads tcpdump's output while it writes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

const PCAP_HEADER = 24;
const RECORD_HEADER = 16;

export class DeviceCapture {
	readonly #child: ChildProcess;
	readonly #frames: Buffer[] = [];
	#bytes = Buffer.alloc(0);
	#started = false;
	#wake: () => void = () => {};

	private constructor(device: string) {
		const options = ["-i", device, "-Q", "out", "-U", "--immediate-mode", "-s", "0", "-w", "-"];
		this.#child = spawn("tcpdump", options, { stdio: ["ignore", "pipe", "pipe"] });
		this.#child.stdout?.on("data", (bytes: Buffer) => {
			this.#bytes = Buffer.concat([this.#bytes, bytes]);
			this.#read();
		});
	}

	/** Resolves when the capture misses nothing from now on. */
	static async start(device: string): Promise<DeviceCapture> {
		const capture = new DeviceCapture(device);
		const { stderr } = capture.#child;
		if (!stderr) throw new Error(`Cannot capture on ${device}: tcpdump does not start`);
		let said = "";
		// Standard error is read to its end: tcpdump writes that line in pieces, and dies without a reader.
		await new Promise<void>((resolve, reject) => {
			stderr.setEncoding("utf8").on("data", (text: string) => {
				said += text;
				if (/listening on .*\n/.test(said)) resolve();
			});
			capture.#child.once("close", () => reject(new Error(`Cannot capture on ${device}: ${said}`)));
		});
		return capture;
	}

	/** The next frame. */
	async next(): Promise<Buffer> {
		for (;;) {
			const frame = this.#frames.shift();
			if (frame) return frame;
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}

	async stop(): Promise<void> {
		this.#child.kill("SIGINT");
		if (this.#child.exitCode === null) await once(this.#child, "close");
	}

	#read(): void {
		if (!this.#started && this.#bytes.length >= PCAP_HEADER) {
			this.#started = true;
			this.#bytes = this.#bytes.subarray(PCAP_HEADER);
		}
		while (this.#started && this.#bytes.length >= RECORD_HEADER) {
			const end = RECORD_HEADER + this.#bytes.readUInt32LE(8);
			if (this.#bytes.length < end) break;
			this.#frames.push(Buffer.from(this.#bytes.subarray(RECORD_HEADER, end)));
			this.#bytes = this.#bytes.subarray(end);
		}
		this.#wake();
	}
}

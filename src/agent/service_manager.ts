/**
 * Notifications to systemd, or another supervisor that started the agent with NOTIFY_SOCKET (sd_notify(3)):
 *
 *  1. while packets do not flow: what the agent waits for, and that the start may take longer (EXTEND_TIMEOUT_USEC)
 *  2. READY=1 when they do
 *  3. then WATCHDOG=1, as often as WATCHDOG_USEC asks: by a timer of the event loop, so that a loop that
 *     hangs is restarted
 *  4. RELOADING=1 and READY=1 around a reload, STOPPING=1 before the end
 *
 * A message that the socket does not take is sent again with the next.
 */
import { sendDatagram } from "#native";
import type { Log } from "../text/log.js";

export interface ServiceManagerOptions {
	/** As in `process.env`. The variables are removed: they are not for the agent's children. */
	environment: Record<string, string | undefined>;
	pid: number;
	log: Log;
	/** Default: `sendDatagram`. */
	send?: (socket: string, text: string) => void;
}

/** What is told. */
export interface ServiceState {
	ready: boolean;
	/** One line. */
	words: string;
}

const TICK_MS = 1_000;
/** Longer than any wait between two ticks of an agent that is alive. */
const START_MORE_MS = 60_000;

export class ServiceManager {
	readonly #socket: string;
	readonly #send: (socket: string, text: string) => void;
	readonly #log: Log;
	/** ms; 0: it does not ask. */
	readonly #watchdogMs: number;
	#state: () => ServiceState = () => ({ ready: false, words: "starting" });
	#toldReady = false;
	#toldWords = "";
	/** A state that has not been taken yet. */
	#owed = "";
	#fedAt = Number.NEGATIVE_INFINITY;
	#isFailing = false;
	#isStopping = false;
	readonly #timer: NodeJS.Timeout;

	/** Undefined: no supervisor expects notifications. */
	static of(options: ServiceManagerOptions): ServiceManager | undefined {
		const { environment, pid } = options;
		const { NOTIFY_SOCKET: socket = "", WATCHDOG_PID: of, WATCHDOG_USEC: usec } = environment;
		for (const name of ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"]) delete environment[name];
		if (socket === "") return undefined;
		if (!/^[/@]./.test(socket)) {
			options.log.warn({ socket }, "the service manager's socket cannot be used");
			return undefined;
		}
		const isOurs = of === undefined || Number(of) === pid;
		const watchdogMs = isOurs && /^[1-9]\d*$/.test(usec ?? "") ? Number(usec) / 1000 : 0;
		return new ServiceManager(options, socket, watchdogMs);
	}

	private constructor(options: ServiceManagerOptions, socket: string, watchdogMs: number) {
		this.#socket = socket;
		this.#send = options.send ?? sendDatagram;
		this.#log = options.log;
		this.#watchdogMs = watchdogMs;
		const every = watchdogMs === 0 ? TICK_MS : Math.min(TICK_MS, watchdogMs / 3);
		this.#timer = setInterval(() => this.tick(), every);
		this.#timer.unref();
		this.tick();
	}

	/** @param state asked for with each tick from now on */
	follow(state: () => ServiceState): void {
		this.#state = state;
		this.tick();
	}

	/** Reports changes. Cheap: may be called at any time. */
	tick(now = performance.now()): void {
		const { ready, words } = this.#state();
		const lines: string[] = [];
		if (this.#owed !== "") lines.push(this.#owed);
		if (ready && !this.#toldReady) lines.push("READY=1");
		if (!ready && !this.#toldReady) lines.push(`EXTEND_TIMEOUT_USEC=${START_MORE_MS * 1000}`);
		// A third of the time, so that one late tick is no end.
		const isHungry = this.#watchdogMs > 0 && now - this.#fedAt >= this.#watchdogMs / 3 - 1;
		if (ready && isHungry) lines.push("WATCHDOG=1");
		if (words !== this.#toldWords) lines.push(`STATUS=${words.replaceAll(/\s+/g, " ")}`);
		if (lines.length === 0 || !this.#tell(lines)) return;
		this.#owed = "";
		this.#toldWords = words;
		if (ready) this.#toldReady = true;
		if (lines.includes("WATCHDOG=1")) this.#fedAt = now;
	}

	/** A reload begins. */
	reloading(): void {
		const usec = process.hrtime.bigint() / 1000n;
		this.#tell(["RELOADING=1", `MONOTONIC_USEC=${usec}`]);
	}

	/** It is over, whether it has changed something or not. */
	reloaded(): void {
		this.#owed = "READY=1";
		this.tick();
	}

	/** Nothing is told after this. */
	stopping(): void {
		clearInterval(this.#timer);
		this.#tell(["STOPPING=1", "STATUS=stopping; forwarding continues"]);
		this.#isStopping = true;
	}

	#tell(lines: readonly string[]): boolean {
		if (this.#isStopping) return false;
		try {
			this.#send(this.#socket, `${lines.join("\n")}\n`);
			this.#isFailing = false;
			return true;
		} catch (err) {
			if (!this.#isFailing)
				this.#log.warn({ err, socket: this.#socket }, "cannot tell the service manager");
			this.#isFailing = true;
			return false;
		}
	}
}

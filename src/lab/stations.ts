/** Starts stations and sends them orders. */
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import type { Namespace } from "./namespace.js";
import type { Orders } from "./orders.js";
import { stationProgram } from "./repository.js";

interface Waiting {
	resolve(answer: unknown): void;
	reject(error: Error): void;
}

export class Station {
	readonly machine: string;
	private readonly child: ChildProcess;
	private readonly waiting = new Map<number, Waiting>();
	private nextId = 1;

	private constructor(machine: string, child: ChildProcess) {
		this.machine = machine;
		this.child = child;
		child.stdin?.on("error", () => undefined);
		createInterface({ input: child.stdout! }).on("line", (line) => this.onLine(line));
		child.on("error", (error) => this.fail(error.message));
		child.on("exit", (status, signal) => this.fail(`it ended with ${signal ?? status}`));
	}

	static async start(machine: string, namespace: Namespace): Promise<Station> {
		const child = namespace.spawn([process.execPath, stationProgram], {
			stdio: ["pipe", "pipe", "inherit"],
			// A session of its own: Ctrl-C reaches only the lab, which then ends the station.
			detached: true,
		});
		const station = new Station(machine, child);
		await new Promise((resolve, reject) => station.waiting.set(0, { resolve, reject }));
		return station;
	}

	/** @throws Error with the station's message if it cannot do it. */
	order<N extends keyof Orders>(name: N, order: Orders[N]["order"]): Promise<Orders[N]["answer"]> {
		const id = this.nextId++;
		return new Promise((resolve, reject) => {
			this.waiting.set(id, { resolve: resolve as Waiting["resolve"], reject });
			this.child.stdin?.write(`${JSON.stringify({ id, name, order })}\n`);
		});
	}

	close(): void {
		this.child.stdin?.end();
	}

	private onLine(line: string): void {
		const { id, answer, error } = JSON.parse(line) as {
			id: number;
			answer?: unknown;
			error?: string;
		};
		const waiting = this.waiting.get(id);
		this.waiting.delete(id);
		if (error === undefined) waiting?.resolve(answer);
		else waiting?.reject(new Error(`Cannot send from ${this.machine}: ${error}`));
	}

	private fail(why: string): void {
		for (const { reject } of this.waiting.values())
			reject(new Error(`Cannot reach the traffic program of ${this.machine}: ${why}`));
		this.waiting.clear();
	}
}

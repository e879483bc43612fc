/**
 * A Node with the Services of services.ts, of which a test chooses the backends, and packets between a client
 * and the Service, by the client's and by the backend's tuple.
 */
import { equal } from "node:assert/strict";
import t from "tap";
import {
	ActionName,
	BackendState,
	FlowFlag,
	type Peer,
	SlowPathKindName,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { check, type Input } from "./check.js";
import type { DataPath, Outcome } from "./data_path.js";
import { compare, type Expected, type Family, takesFastPath } from "./fast_path.js";
import type { MemoryTables } from "./memory_tables.js";
import { type ServicePort, serviceOf, setBackends } from "./services.js";
import { fresh } from "./table.js";
import type * as world from "./world.js";

export const TCP = 6;
export const UDP = 17;
export const SCTP = 132;
export type Protocol = typeof TCP | typeof UDP | typeof SCTP;
export const NAMES: Record<Protocol, string> = { [TCP]: "TCP", [UDP]: "UDP", [SCTP]: "SCTP" };

/** In the range of SNAT: a flow that is alone keeps it. */
export const PORT = 50001;

/** An end of a flow: address and port. */
export type End = readonly [address: string, port: number];
export type Tuple = readonly [source: End, destination: End];

const DATA = Buffer.from("to one of many");

export interface PacketOptions extends Partial<build.IpOptions> {
	/** Of TCP; a UDP packet has none. */
	flags?: number;
	data?: Buffer;
	chunk?: number;
}

/** A packet of this tuple. */
export function packetOf(
	[[source, from], [destination, to]]: Tuple,
	protocol: Protocol,
	{ flags = build.ACK, data = DATA, chunk = 0, ...how }: PacketOptions = {},
): Buffer {
	const opens = (flags & build.SYN) !== 0;
	const segment =
		protocol === UDP
			? build.udp(from, to, data)
			: protocol === TCP
				? build.tcp(from, to, { flags, ...(!opens && { payload: data }) })
				: build.sctp(from, to, chunk);
	return build.ip({ ...how, source, destination }, segment);
}

export class Scene {
	readonly family: Family;
	readonly tables: MemoryTables;
	readonly #dataPath: DataPath;

	constructor(dataPath: DataPath, tables: MemoryTables, family: Family) {
		this.#dataPath = dataPath;
		this.tables = tables;
		this.family = family;
	}

	static async begin(
		dataPath: DataPath,
		family: Family,
		variation: world.Variation = {},
	): Promise<Scene> {
		return new Scene(dataPath, await fresh(dataPath, variation), family);
	}

	service(name: string, protocol: Protocol): ServicePort {
		return serviceOf(name, this.family, protocol);
	}

	/** The backend at an address. */
	backend(service: ServicePort, address: string): number {
		const found = service.backends.find((backend) => backend.address === address);
		if (found === undefined) throw new Error(`Cannot find ${address} among the backends`);
		return found.id;
	}

	/** Leaves a Service with the backends at these addresses; the local set has those of this Node. */
	only(service: ServicePort, ...addresses: string[]): void {
		const kept = service.backends.filter(({ address }) => addresses.includes(address));
		const local = kept.filter(({ isLocal }) => isLocal);
		const ids = (some: typeof kept) => some.map(({ id }) => id);
		setBackends(this.tables, service, ids(kept), ids(local));
		this.write();
	}

	/** @param state enum backend_state */
	state(id: number, state: number): void {
		this.tables.setBackendState(id, state);
		this.write();
	}

	/** The endpoint is no more, and this one has its place. */
	replace(service: ServicePort, gone: string, next: string): void {
		this.only(service, next);
		this.state(this.backend(service, gone), BackendState.RESTS);
	}

	write(): void {
		this.#dataPath.writeServices(this.tables);
	}

	raiseEpoch(): void {
		this.tables.config.routeEpoch++;
		this.#dataPath.write(this.tables);
	}

	/** A change of a peer, which raises no epoch. */
	changePeer(index: number, change: Partial<Peer>): void {
		const peer = this.tables.peers.get(index);
		if (peer === undefined) throw new Error(`Cannot change peer ${index}: there is none`);
		this.tables.peers.set(index, { ...peer, ...change });
		this.#dataPath.write(this.tables);
	}

	/** Whether a packet takes the fast path. */
	isFast(input: Input): boolean {
		return takesFastPath(this.#dataPath, input);
	}

	/** Through the data path and the forwarder, which say the same. */
	async send(input: Input): Promise<Outcome> {
		const { outcome, differences } = await check(this.#dataPath, this.tables, input);
		equal(differences.join("; "), "", "the forwarder says the same");
		return outcome;
	}

	async expect(input: Input, expected: Expected): Promise<Outcome> {
		const outcome = await this.send(input);
		compare(outcome, expected);
		return outcome;
	}

	/** It goes to the Node's own stack like this. */
	async passes(input: Input, packet: Buffer): Promise<void> {
		const outcome = await this.send(input);
		equal(ActionName[outcome.verdict.action], "pass");
		equal(outcome.packet.subarray(14).toString("hex"), packet.toString("hex"));
	}

	/** It is answered with a reset, a frame like this. */
	async isReset(input: Input, drop: string, frame: Buffer): Promise<void> {
		const { verdict, packet } = await this.expect(input, { drop });
		equal(ActionName[verdict.action], "reset");
		equal(packet.toString("hex"), frame.toString("hex"));
	}

	/** A later fragment waits for its first one on the slow path. */
	async isHeld(input: Input): Promise<void> {
		const { verdict } = await this.send(input);
		equal(ActionName[verdict.action], "slow_path");
		equal(SlowPathKindName[verdict.slowPathKind], "hold");
	}

	/** It ends here; `up`: what the slow path makes of it, or nothing. */
	async ends(input: Input, drop: string, up?: string): Promise<void> {
		const { verdict } = await this.expect(input, { drop });
		equal(ActionName[verdict.action], "drop");
		if (up === undefined) equal(verdict.slowPathKind, 0);
		else equal(SlowPathKindName[verdict.slowPathKind], up);
	}

	/** The flow of a tuple has this backend. */
	hasBackend([source, destination]: Tuple, protocol: Protocol, id: number): void {
		const found = this.#dataPath.flow({
			source: source[0],
			destination: destination[0],
			sourcePort: source[1],
			destinationPort: destination[1],
			protocol,
		});
		const { backend = 0, backendUpper = 0, flags = 0 } = found?.flow ?? {};
		equal((backendUpper << 16) | backend, id, "the flow's backend");
		equal(flags & FlowFlag.DNAT, FlowFlag.DNAT);
	}

	/** The flow of a tuple, where there is one. */
	hasFlow([source, destination]: Tuple, protocol: Protocol): boolean {
		const found = this.#dataPath.flow({
			source: source[0],
			destination: destination[0],
			sourcePort: source[1],
			destinationPort: destination[1],
			protocol,
		});
		return found !== undefined;
	}
}

/** Declares tests of one family, each with a scene of its own. `about`: what the titles begin with. */
export function sceneTests(dataPath: DataPath, family: Family, about = `IPv${family}`) {
	return (
		shows: string,
		play: (scene: Scene) => Promise<void>,
		variation: world.Variation = {},
	): void => {
		t.test(`${about}: ${shows}`, async (t) => {
			await play(await Scene.begin(dataPath, family, variation));
			t.pass("every packet");
		});
	};
}

export const reversed = ([source, destination]: Tuple): Tuple => [destination, source];

/** The reset that answers a segment of this tuple. */
export function resetOf(
	[[client, from], [service, to]]: Tuple,
	{ sequence, acknowledgment, flags }: { sequence: number; acknowledgment: number; flags: number },
): Buffer {
	const segment: build.Segment = {
		protocol: () => TCP,
		encode: (source, destination) => {
			const bytes = Buffer.alloc(20);
			bytes.writeUInt16BE(to, 0);
			bytes.writeUInt16BE(from, 2);
			bytes.writeUInt32BE(sequence, 4);
			bytes.writeUInt32BE(acknowledgment, 8);
			bytes[12] = 5 << 4;
			bytes[13] = flags;
			bytes.writeUInt16BE(
				build.transportChecksum(TCP, build.pseudoHeader(source, destination), bytes),
				16,
			);
			return bytes;
		},
	};
	return build.ip({ source: service, destination: client }, segment);
}

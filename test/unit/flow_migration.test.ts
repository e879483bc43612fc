/** Flows of the version before, which kept one tuple and the translation of its source beside it. */
import t from "tap";
import type { BpfMap } from "#native";
import { originalKey, replyKey, tupleOf } from "../../src/forwarder/flow.js";
import { copyFlows } from "../../src/reconcile/programs/flow_migration.js";
import { copyPlan } from "../../src/reconcile/programs/migration.js";
import { writeAddress } from "../../src/tables/address.js";
import {
	ClaimBit,
	Flow,
	FlowFlag,
	FlowKey,
	FlowRef,
	FlowState,
} from "../../src/tables/generated.js";
import type { Layout, StructLayout } from "../../src/tables/layout.js";

const integer = (size: 1 | 2 | 4 | 8, bigEndian = false): Layout => ({
	kind: "integer",
	size,
	bigEndian,
	signed: false,
});
const array = (element: Layout, length: number): Layout => ({
	kind: "array",
	size: element.size * length,
	length,
	element,
});
function struct(name: string, fields: Record<string, Layout>): StructLayout {
	let size = 0;
	const placed = Object.entries(fields).map(([name, layout]) => {
		const field = { name, offset: size, layout };
		size += layout.size;
		return field;
	});
	return { kind: "struct", size, name, fields: placed };
}

const address = struct("address", { word: array(integer(4, true), 4) });
const mac = struct("mac", { byte: array(integer(1), 6) });
const key = struct("flow_key", {
	source: address,
	destination: address,
	source_port: integer(2, true),
	destination_port: integer(2, true),
	protocol: integer(1),
	pad: array(integer(1), 3),
});
const before = struct("flow", {
	last_seen: integer(8),
	claim: integer(4),
	state: integer(1),
	flags: integer(1),
	snat_port: integer(2, true),
	route_epoch: integer(4),
	peer: integer(4),
	route_kind: integer(1),
	route_flags: integer(1),
	local_mac: mac,
	local_ifindex: integer(4),
	local_direction: integer(1),
	pad: integer(1),
	endpoint: integer(2),
	next_hop: array(integer(8), 4),
	key,
	snat_address: address,
});
const ends = struct("flow_addresses", { source: address, destination: address });
const ports = struct("flow_ports", { source: integer(2, true), destination: integer(2, true) });
const after = struct("flow", {
	last_seen: integer(8),
	claim: integer(4),
	state: integer(1),
	protocol: integer(1),
	flags: integer(2),
	route_epoch: integer(4),
	ifindex: array(integer(4), 2),
	mac: array(mac, 2),
	endpoint: integer(2),
	remote: integer(2),
	asked: integer(2),
	asked_epoch: integer(2),
	mtu: integer(2),
	route_kind: integer(1),
	route_flags: integer(1),
	pods: integer(1),
	pad: array(integer(1), 3),
	ports: array(ports, 2),
	addresses: array(ends, 2),
});
const ref = struct("flow_ref", {
	slot: integer(4),
	generation: integer(4),
	direction: integer(1),
	pad: array(integer(1), 7),
});

/** A map in memory; what is read of it comes in one slice. */
function mapOf(type: number, keySize: number, valueSize: number, entries: [Buffer, Buffer][] = []) {
	const content = new Map(entries.map(([key, value]) => [key.toString("hex"), value]));
	const map = {
		info: { type, keySize, valueSize, maxEntries: 16 },
		slice: () => ({
			keys: Buffer.concat([...content.keys()].map((key) => Buffer.from(key, "hex"))),
			values: Buffer.concat([...content.values()]),
			next: null,
		}),
		update: (key: Buffer, value: Buffer) => {
			content.set(key.toString("hex"), Buffer.from(value));
		},
	};
	return { map: map as unknown as BpfMap, content };
}

const ARRAY = 2;
const HASH = 1;
const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);

function oldFlow(tuple: FlowKey, snat?: { address: string; port: number }): Buffer {
	const at = (name: string) => before.fields.find((field) => field.name === name)!.offset;
	const bytes = Buffer.alloc(before.size);
	bytes.writeBigUInt64LE(5n, at("last_seen"));
	bytes.writeUInt32LE(((7 << 1) | ClaimBit.IN_USE | ClaimBit.PUBLISHED) >>> 0, at("claim"));
	bytes.writeUInt8(FlowState.TCP_ESTABLISHED, at("state"));
	bytes.writeUInt8(FlowFlag.REPLIED | (snat ? FlowFlag.SNAT : 0), at("flags"));
	bytes.writeUInt32LE(3, at("route_epoch"));
	bytes.writeUInt16LE(2, at("endpoint"));
	FlowKey.encode(tuple).copy(bytes, at("key"));
	if (snat) {
		writeAddress(bytes, at("snat_address"), snat.address);
		bytes.writeUInt16BE(snat.port, at("snat_port"));
	}
	return bytes;
}

t.test("flows of one tuple and a translated source become flows of two tuples", async (t) => {
	t.equal(before.size, 128);
	t.equal(after.size, Flow.size);
	const tuples = [
		{ source: "10.244.1.2", destination: "198.51.100.7", sourcePort: 40000, destinationPort: 443 },
		{ source: "fd00:1::2", destination: "fd00:2::2", sourcePort: 40001, destinationPort: 80 },
	].map((tuple) => ({ ...tuple, protocol: 6 })) as [FlowKey, FlowKey];
	const from = mapOf(ARRAY, 4, before.size, [
		[u32(1), oldFlow(tuples[0], { address: "192.168.1.1", port: 61000 })],
		[u32(4), oldFlow(tuples[1])],
	]);
	const to = mapOf(ARRAY, 4, after.size);
	const newIndex = mapOf(HASH, FlowKey.size, ref.size);
	const counts = mapOf(ARRAY, 4, 8);
	copyFlows({
		flows: {
			from: from.map,
			to: to.map,
			key: copyPlan(integer(4), integer(4), true)!,
			value: copyPlan(before, after, false)!,
		},
		index: newIndex.map,
		oldLayout: before,
		flowLayout: after,
		refLayout: ref,
		counts: counts.map,
	});
	const flows = [1, 4].map((slot) => Flow.decode(to.content.get(u32(slot).toString("hex"))!));
	for (const [i, flow] of flows.entries()) {
		t.same(tupleOf(flow, 0), tuples[i], "as the initiator's packets come in");
		t.match(flow, { lastSeen: 5n, state: FlowState.TCP_ESTABLISHED, endpoint: 2 });
		t.equal(flow.routeEpoch, 0, "its ends are looked up again");
	}
	const [translated, plain] = flows as [Flow, Flow];
	t.match(replyKey(translated), { destination: "192.168.1.1", destinationPort: 61000 });
	t.match(replyKey(translated), { source: "198.51.100.7", sourcePort: 443 });
	t.equal(translated.flags, FlowFlag.REPLIED | FlowFlag.SNAT | FlowFlag.COUNTED);
	t.match(replyKey(plain), { source: "fd00:2::2", destination: "fd00:1::2" });
	t.match(replyKey(plain), { sourcePort: 80, destinationPort: 40001 });
	t.equal(newIndex.content.size, 4, "and are found by both tuples");
	for (const [i, slot] of [1, 4].entries())
		for (const [direction, key] of [originalKey(flows[i]!), replyKey(flows[i]!)].entries())
			t.match(FlowRef.decode(newIndex.content.get(FlowKey.encode(key).toString("hex"))!), {
				slot,
				generation: 7,
				direction,
			});
});

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import t from "tap";
import { codec, elements, prefix, u8, u32, u64 } from "../../src/tables/codec.js";
import {
	Flow,
	FlowKey,
	knobs,
	maps,
	NodeConfig,
	Path,
	PathName,
	RouteFlag,
	SlowPathHeader,
} from "../../src/tables/generated.js";

const u = (bits: number) => fc.integer({ min: 0, max: 2 ** bits - 1 });
const record = <T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
	fc.record(model, { noNullPrototype: true });
const big = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const addressText = fc.oneof(fc.ipV4(), fc.constant("fd00::1"), fc.constant(""));
const macText = fc
	.uint8Array({ minLength: 6, maxLength: 6 })
	.map((bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":"));
const both = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: 2, maxLength: 2 });
t.test("a generated struct has the layout of C", async (t) => {
	const bytes = FlowKey.encode({
		source: "10.0.0.1",
		destination: "fd00::2",
		sourcePort: 0x1234,
		destinationPort: 80,
		protocol: 6,
	});
	t.equal(
		bytes.toString("hex"),
		`${"00".repeat(10)}ffff0a000001fd00${"00".repeat(13)}021234005006000000`,
	);
	const header = SlowPathHeader.decode(
		Buffer.from(`0102000003000000dc05000000100000${"00".repeat(10)}ffff0a00000104000000`, "hex"),
	);
	t.same(header, {
		kind: 1,
		hook: 2,
		pod: 0,
		ifindex: 3,
		mtu: 1500,
		length: 4096,
		nextHop: "10.0.0.1",
		nextHopIfindex: 4,
	});
});

t.test("any value survives encoding and decoding, nested or not", async (t) => {
	fc.assert(
		fc.property(
			record({
				lastSeen: big,
				claim: u(32),
				state: u(8),
				protocol: u(8),
				flags: u(16),
				routeEpoch: u(32),
				ifindex: both(u(32)),
				mac: both(macText),
				endpoint: u(16),
				remote: u(16),
				asked: u(16),
				remoteEpoch: u(16),
				mtu: u(16),
				routeKind: u(8),
				routeFlags: u(8),
				pods: u(8),
				backendUpper: u(8),
				backend: u(16),
				ports: both(record({ source: u(16), destination: u(16) })),
				addresses: both(record({ source: addressText, destination: addressText })),
			}),
			(flow) => {
				const decoded = Flow.decode(Buffer.concat([Buffer.alloc(3), Flow.encode(flow)]), 3);
				return isDeepStrictEqual(decoded, flow);
			},
		),
		{ numRuns: 500 },
	);
	t.pass();
});

t.test("arrays have their C length", async (t) => {
	const zero = NodeConfig.decode(Buffer.alloc(NodeConfig.size));
	t.equal(zero.gatewayMac, "00:00:00:00:00:00");
	t.equal(zero.snatAddress4, "");
	t.throws(() => NodeConfig.encode({ ...zero, flowTimeouts: [1] }), {
		message: "Cannot encode node_config.flow_timeouts: expected 12 values, got 1",
	});
	t.same(elements([1, 2], 2, "x"), [1, 2]);
});

t.test("prefixes", async (t) => {
	t.equal(prefix.encode("10.1.0.0/16").toString("hex"), `70000000${"00".repeat(10)}ffff0a010000`);
	for (const text of ["0.0.0.0/0", "10.0.0.1/32", "::/0", "fd00:1::/64", "2001:db8::1/128"])
		t.equal(prefix.decode(prefix.encode(text)), text);
	for (const text of ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "/8", "fd00::/129", "fd00::/-1"])
		t.throws(() => prefix.encode(text), /Cannot encode prefix: expected address\/length/, text);
});

t.test("values that do not fit are refused", async (t) => {
	t.throws(() => u8.encode(256), RangeError);
	t.throws(() => u32.encode(-1), RangeError);
	t.throws(() => u64.encode(1n << 64n), RangeError);
	t.throws(() => u32.decode(Buffer.alloc(6), 3), {
		message: "Cannot decode: expected 4 bytes, got 3",
	});
	const three = codec<number>(
		3,
		(b, o, v) => b.writeUIntLE(v, o, 3),
		(b, o) => b.readUIntLE(o, 3),
	);
	t.equal(three.decode(three.encode(0x010203)), 0x010203);
});

t.test("names, maps and knobs", async (t) => {
	t.equal(Path.GENEVE, 3);
	t.equal(PathName[Path.GENEVE], "geneve");
	t.equal(RouteFlag.NO_SNAT, 1);
	t.match(maps.peers, { name: "peers", type: 2, keySize: 4, perCpu: false });
	t.match(maps.slowPath, { name: "slow_path", keySize: 0, valueSize: 0 });
	for (const map of Object.values(maps)) {
		if ("key" in map) t.equal(map.key.size, map.keySize, `${map.name} key`);
		if ("value" in map) t.equal(map.value.size, map.valueSize, `${map.name} value`);
	}
	t.equal(knobs.flowSlots.encode(1).length, 4);
});

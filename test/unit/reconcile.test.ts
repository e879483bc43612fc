/** The reconciler's parts that need no kernel. */
import t from "tap";
import { failedNeighbours, NetworkMessages } from "../../src/linux/network_messages.js";
import { NodeSockets, parseSockets } from "../../src/linux/sockets.js";
import { changes } from "../../src/reconcile/host/device.js";
import { formatPorts, parsePorts } from "../../src/reconcile/host/port_set.js";
import { othersPorts, type Reservation, reserve } from "../../src/reconcile/host/reserved_ports.js";
import { convert, copyPlan } from "../../src/reconcile/programs/migration.js";
import type { Layout } from "../../src/tables/layout.js";

const local = { first: 32_768, last: 60_999 };

t.test("SNAT ports among the reserved ones: what others reserved stays", async (t) => {
	const range = { first: 49152, last: 65535 };
	for (const [current, wanted] of [
		["", "49152-65535"],
		["49152-65535", "49152-65535"],
		["8080", "8080,49152-65535"],
		["8080,9000-9100", "8080,9000-9100,49152-65535"],
		["60000-60001", "49152-65535"],
		["45000-49151", "45000-65535"],
		["49151,65535", "49151-65535"],
	] as const) {
		const reserved = reserve(parsePorts(current), undefined, range, local);
		if ("refusal" in reserved) throw new Error(reserved.refusal);
		t.equal(formatPorts(reserved.ports), wanted, current);
		t.equal(
			formatPorts(othersPorts(reserved.ports, reserved.ours)),
			formatPorts(parsePorts(current)),
			"and is all that is left when ours go",
		);
	}
});

t.test("a changed snat.portRange: the former ports are given back", async (t) => {
	let current = parsePorts("8080,50000");
	let ours: Reservation | undefined;
	for (const [first, last, wanted] of [
		[49152, 65535, "8080,49152-65535"],
		[40000, 45000, "8080,40000-45000,50000"],
		[49152, 49999, "8080,49152-50000"],
		[61000, 65535, "8080,50000,61000-65535"],
	] as const) {
		const reserved = reserve(current, ours, { first, last }, local);
		if ("refusal" in reserved) throw new Error(reserved.refusal);
		({ ports: current, ours } = reserved);
		t.equal(formatPorts(current), wanted);
	}
	t.equal(formatPorts(othersPorts(current, ours)), "8080,50000");
});

t.test("a snat.portRange that takes the Node's own ports is refused", async (t) => {
	const refusal = (first: number, last: number, current = "") =>
		reserve(parsePorts(current), undefined, { first, last }, local);
	t.same(refusal(1024, 65535), {
		refusal:
			"Cannot use 1024-65535 as snat.portRange: expected at least 4096 of the local ports 32768-60999 to remain for the Node, got 0",
	});
	t.match(refusal(36864, 65535), { ours: {} }, "4096 remain");
	t.match(refusal(36863, 65535), { refusal: /got 4095$/ });
	t.match(refusal(49152, 65535, "32768-48000"), { refusal: /got 1151$/ }, "others' count as well");
	t.match(refusal(1024, 32767), { ours: {} }, "it takes none of them");
});

t.test("copyPlan", async (t) => {
	const integer = (size: 1 | 2 | 4 | 8, bigEndian = false): Layout => ({
		kind: "integer",
		size,
		bigEndian,
		signed: false,
	});
	const struct = (...fields: [string, Layout][]): Layout => {
		let size = 0;
		return {
			kind: "struct",
			name: "x",
			fields: fields.map(([name, layout]) => {
				size += layout.size;
				return { name, offset: size - layout.size, layout };
			}),
			size,
		};
	};
	const moved = (old: Layout, wanted: Layout, bytes: number[], whole = false) => {
		const plan = copyPlan(old, wanted, whole);
		return plan && [...convert(plan, Buffer.from(bytes))];
	};
	const old = struct(["a", integer(2)], ["b", integer(2, true)], ["c", integer(1)]);

	t.same(moved(old, old, [1, 2, 3, 4, 5]), [1, 2, 3, 4, 5]);
	t.equal(copyPlan(old, old, false)?.ranges.length, 1, "one copy where nothing moves");
	t.same(
		moved(old, struct(["c", integer(1)], ["new", integer(2)], ["a", integer(2)]), [1, 2, 3, 4, 5]),
		[5, 0, 0, 1, 2],
		"by name; new fields are zero, old ones are left",
	);
	t.same(
		moved(struct(["a", integer(2)]), struct(["a", integer(4)]), [1, 2]),
		[1, 2, 0, 0],
		"an integer grows",
	);
	t.equal(moved(struct(["a", integer(4)]), struct(["a", integer(2)]), [1, 2, 3, 4]), undefined);
	t.equal(moved(struct(["a", integer(2)]), struct(["a", integer(2, true)]), [1, 2]), undefined);
	t.equal(moved(integer(4), struct(["a", integer(4)]), [1, 2, 3, 4]), undefined);
	t.equal(
		moved(old, struct(["a", integer(2)], ["new", integer(2)]), [1, 2, 3, 4, 5], true),
		undefined,
		"a key with an invented field would name something else",
	);
	t.same(
		moved(old, struct(["a", integer(2)], ["pad", integer(2)]), [1, 2, 3, 4, 5], true),
		[1, 2, 0, 0],
		"padding is no field",
	);
	const array = (length: number): Layout => ({
		kind: "array",
		size: length * 2,
		length,
		element: integer(2),
	});
	t.same(moved(array(1), array(2), [1, 2]), [1, 2, 0, 0]);
	t.equal(moved(array(2), array(1), [1, 2, 3, 4]), undefined);
});

t.test("NetworkMessages: classification of changes", async (t) => {
	const messages = new NetworkMessages();
	const network = { network: true, own: false, nextHops: true };
	const own = { network: false, own: true, nextHops: false };
	const nothing = { network: false, own: false, nextHops: false };
	const neighbour = { network: false, own: false, nextHops: true };
	for (const [line, events] of [
		["[LINK]3: eth0@if2: <BROADCAST,UP> mtu 1500 qdisc noqueue state UP", network],
		["[ADDR]Deleted 3: eth0    inet 192.168.1.1/24 scope global eth0\\ valid_lft forever", network],
		["[ROUTE]203.0.113.0/24 via 192.168.1.9 dev eth0 ", network],
		["[ROUTE]Deleted default via 192.168.1.9 dev eth0", network],
		["[LINK]9: fairway01234567@if8: <BROADCAST> mtu 1500", own],
		["[LINK]9: fairway-of-another: <BROADCAST> mtu 1500", network],
		["[ROUTE]10.244.2.0/24 dev fairway0 proto 170 scope link src 10.244.1.1", nothing],
		["[ROUTE]Deleted 10.244.2.0/24 dev fairway0 proto 170 scope link src 10.244.1.1", own],
		["[ROUTE]Deleted blackhole 10.9.0.0/16 proto 170 ", own],
		["[ROUTE]Deleted local 10.244.1.1 dev fairway0 table local proto kernel scope host", own],
		["[ROUTE]2001:db8::1 via fe80::1 dev eth0 cache expires 599sec mtu 1400", nothing],
		["[NEIGH]10.244.1.2 dev fairway01234567 lladdr 02:00:00:00:00:01 PERMANENT", nothing],
		["[NEIGH]Deleted 10.244.1.2 dev fairway01234567 lladdr 02:00:00:00:00:01 PERMANENT", own],
		["[NEIGH]10.244.7.1 dev fairway0 lladdr 02:00:00:00:00:aa NOARP", nothing],
		["[NEIGH]Deleted 10.244.7.1 dev fairway0 lladdr 02:00:00:00:00:aa NOARP", nothing],
		["[ADDR]7: fairway0    inet 10.244.1.1/32 scope global fairway0", nothing],
		["[ADDR]Deleted 7: fairway0    inet 10.244.1.1/32 scope global fairway0", own],
		["[NEIGH]192.168.1.9 dev eth0 lladdr 02:00:00:00:00:01 REACHABLE", neighbour],
		["[NEIGH]192.168.1.9 dev eth0 lladdr 02:00:00:00:00:01 STALE", nothing],
		["[NEIGH]192.168.1.9 dev eth1 lladdr 02:00:00:00:00:02 STALE", neighbour],
		["[NEIGH]192.168.1.9 dev eth0 lladdr 02:00:00:00:00:03 REACHABLE", neighbour],
		["[NEIGH]192.168.1.9 dev eth0  FAILED", neighbour],
		["[NEIGH]192.168.1.9 dev eth0  FAILED", nothing],
		["[NEIGH]Deleted 192.168.1.9 dev eth0  FAILED", nothing],
		["[NEIGH]192.168.1.10 dev eth0  INCOMPLETE", nothing],
		["[NEIGH]192.168.1.10 dev eth0 lladdr 02:00:00:00:00:04 REACHABLE", nothing],
		["[NEIGH]Deleted 192.168.1.10 dev eth0 lladdr 02:00:00:00:00:04 STALE", neighbour],
		["", nothing],
		["something that no version prints", nothing],
	] as const)
		t.same(messages.read([line]), events, line);
	messages.learn([{ address: "192.168.1.20", device: "eth0", mac: "02:00:00:00:00:20" }]);
	for (const [line, events] of [
		["[NEIGH]192.168.1.21 dev eth0 lladdr 02:00:00:00:00:21 REACHABLE", nothing],
		["[NEIGH]192.168.1.21 dev eth0 lladdr 02:00:00:00:00:22 REACHABLE", neighbour],
		["[NEIGH]192.168.1.20 dev eth0 lladdr 02:00:00:00:00:20 STALE", nothing],
		["[NEIGH]192.168.1.20 dev eth0 lladdr 02:00:00:00:00:23 REACHABLE", neighbour],
	] as const)
		t.same(messages.read([line]), events, `${line}, with all neighbours known`);
	t.same(
		messages.read(["[ROUTE]10.0.0.0/8 dev eth0", "[LINK]9: fairway0: <UP> mtu 1500"]),
		{ network: true, own: true, nextHops: true },
		"of many lines, all of it",
	);
});

t.test("NetworkMessages: neighbours that have not answered", async (t) => {
	const lines = [
		"[NEIGH]192.168.1.9 dev eth0  FAILED",
		"[NEIGH]fe80::1 dev eth0 router FAILED ",
		"[NEIGH]192.168.1.10 dev eth0 lladdr 02:00:00:00:00:04 REACHABLE",
		"[NEIGH]192.168.1.11 dev eth0  INCOMPLETE",
		"[NEIGH]Deleted 192.168.1.9 dev eth0  FAILED",
		"[ROUTE]203.0.113.0/24 via 192.168.1.9 dev FAILED ",
	];
	t.same(failedNeighbours(lines), [
		{ address: "192.168.1.9", device: "eth0" },
		{ address: "fe80::1", device: "eth0" },
	]);
});

t.test("changes of fairway0: differences only, and never without an address", async (t) => {
	const address = (local: string, prefixlen: number, scope = "global") => ({
		local,
		prefixlen,
		scope,
	});
	const wanted = { addresses: ["10.244.1.1", "fd00::1"], mac: "02:00:00:00:00:aa", mtu: 1500 };
	const device = {
		flags: ["UP", "NOARP"],
		mtu: 1500,
		address: wanted.mac,
		addr_info: [address("10.244.1.1", 32), address("fd00::1", 128)],
	};
	t.same(changes(device, wanted), []);
	t.same(changes({ ...device, mtu: 1400 }, wanted), ["link set dev fairway0 mtu 1500"]);
	t.same(changes({ ...device, flags: [], addr_info: [] }, wanted), [
		"link set dev fairway0 addrgenmode none",
		"link set dev fairway0 arp off",
		"link set dev fairway0 up",
		"address add 10.244.1.1/32 dev fairway0",
		"address add fd00::1/128 dev fairway0 nodad",
	]);
	const addr_info = [
		address("10.9.9.9", 32),
		address("fe80::1", 64, "link"),
		address("fd00::1", 64),
	];
	t.same(changes({ ...device, addr_info }, wanted), [
		"address del fd00::1/64 dev fairway0",
		"address add 10.244.1.1/32 dev fairway0",
		"address add fd00::1/128 dev fairway0 nodad",
		"address del 10.9.9.9/32 dev fairway0",
	]);
});

t.test("parseSockets", async (t) => {
	const text = `  sl  local_address rem_address   st tx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000
   1: 0101A8C0:C000 07C63364:0050 01 00000000:00000000 00:00000000
`;
	const mapped = "00000000000000000000ffff";
	t.same(parseSockets(text), [
		{
			local: `${mapped}7f000001`,
			localPort: 8080,
			remote: `${mapped}00000000`,
			remotePort: 0,
			state: 10,
		},
		{
			local: `${mapped}c0a80101`,
			localPort: 49152,
			remote: `${mapped}6433c607`,
			remotePort: 80,
			state: 1,
		},
	]);
	const six = `  sl  local_address                         remote_address                        st
   0: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0
`;
	t.match(parseSockets(six), [{ local: "20010db8000000000000000000000001", localPort: 80 }]);
});

t.test("sockets: a search over many ports reads each file once", async (t) => {
	const read: string[] = [];
	const line = (n: number) =>
		`   ${n}: 0101A8C0:${(40_000 + n).toString(16).toUpperCase()} 00000000:0000 0A 0 0 0 0`;
	const text = ["head", ...Array.from({ length: 64 }, (_, n) => line(n))].join("\n");
	const sockets = new NodeSockets((file) => {
		read.push(file);
		if (file.endsWith("6")) throw new Error("ENOENT");
		return text;
	});
	const taken = Array.from({ length: 128 }, (_, n) =>
		sockets.has({
			...{ source: "203.0.113.9", sourcePort: 443, protocol: 6 },
			...{ destination: "192.168.1.1", destinationPort: 40_000 + n },
		}),
	);
	t.equal(taken.filter(Boolean).length, 64);
	t.same(read, ["tcp", "tcp6"]);
});

import fc from "fast-check";
import t from "tap";
import { AddressPool, nextAddress, type PodNetwork } from "../../src/cni/pool.js";
import {
	addressFromNumber,
	addressToNumber,
	formatAddress,
	parseAddress,
} from "../../src/tables/address.js";

/* ------------------------------------------------------ the slow, obvious model */

const number = (address: string): bigint => addressToNumber(parseAddress(address)!);
const text = (value: bigint, family: 4 | 6): string =>
	formatAddress(addressFromNumber(value, family));

/** Every Pod address of the networks, in order of assignment. */
function all(networks: readonly PodNetwork[]): string[] {
	const gateways = networks.map(({ gateway }) => gateway);
	const found: string[] = [];
	for (const { cidr } of networks) {
		const [network = "", length = ""] = cidr.split("/");
		const family = network.includes(":") ? 6 : 4;
		const size = 1n << BigInt((family === 4 ? 32 : 128) - Number(length));
		for (let offset = 0n; offset < size; offset++) {
			const address = text(number(network) + offset, family);
			const isBroadcast = family === 4 && offset === size - 1n;
			if (offset === 0n || isBroadcast || offset === 1n || gateways.includes(address)) continue;
			found.push(address);
		}
	}
	return found;
}

/** Starts after `previous`, if it is one of them. */
function model(networks: PodNetwork[], taken: Set<string>, previous?: string): string | undefined {
	const list = all(networks);
	const at = previous === undefined ? -1 : list.indexOf(previous);
	const turned = [...list.slice(at + 1), ...list.slice(0, at + 1)];
	return turned.find((address) => !taken.has(address));
}

const network = (family: 4 | 6) =>
	fc
		.record({ index: fc.integer({ min: 0, max: 9 }), bits: fc.integer({ min: 0, max: 5 }) })
		.map(({ index, bits }): PodNetwork => {
			const base = number(family === 4 ? "10.1.0.0" : "fd00:1::") + BigInt(index * 32);
			const cidr = `${text(base, family)}/${(family === 4 ? 32 : 128) - bits}`;
			return { cidr, gateway: text(bits === 0 ? base : base + 1n, family) };
		});

const networks = (family: 4 | 6) =>
	fc.uniqueArray(network(family), {
		minLength: 1,
		maxLength: 3,
		selector: ({ cidr }) => cidr.split("/")[0],
	});

for (const family of [4, 6] as const) {
	t.test(`IPv${family}: the next address is that of the model`, async (t) => {
		fc.assert(
			fc.property(
				networks(family),
				fc.infiniteStream(fc.nat()),
				fc.boolean(),
				(nets, dice, hand) => {
					const list = all(nets);
					const roll = () => dice.next().value as number;
					const taken = new Set(list.filter(() => roll() % 3 !== 0));
					const previous = hand ? list[roll() % Math.max(1, list.length)] : undefined;
					return nextAddress(nets, taken, previous)?.address === model(nets, taken, previous);
				},
			),
			{ numRuns: 500 },
		);
		t.pass("500 random pools");
	});
}

t.test("random reservations and releases behave like a list", async (t) => {
	fc.assert(
		fc.property(
			networks(4),
			networks(6),
			fc.array(fc.option(fc.nat(), { freq: 3 }), { maxLength: 150 }),
			(v4, v6, steps) => {
				const nets = [...v6, ...v4];
				const pool = new AddressPool();
				const attached: string[][] = [];
				const taken = new Set<string>();
				let previous: (string | undefined)[] = [undefined, undefined];
				for (const step of steps) {
					if (step !== null) {
						const [gone] = attached.splice(step % Math.max(1, attached.length), 1);
						pool.free(gone ?? []);
						for (const address of gone ?? []) taken.delete(address);
						continue;
					}
					const wanted = [v4, v6].map((n, i) => model(n, taken, previous[i]));
					const whole = wanted.every((address) => address !== undefined);
					if (pool.hasRoom(nets) !== whole) return false;
					const got = pool.reserve(nets);
					if (!whole) {
						if (got !== undefined) return false;
						continue;
					}
					if (got?.addresses.join() !== wanted.join()) return false;
					attached.push(got.addresses);
					for (const address of got.addresses) taken.add(address);
					previous = got.addresses;
				}
				return true;
			},
		),
		{ numRuns: 200 },
	);
	t.pass("200 random histories");
});

/* ------------------------------------------------------ known cases */

const table: { what: string; cidr: string; gateway: string; first?: string; count: number }[] = [
	{ what: "a /30 has one", cidr: "10.0.0.0/30", gateway: "10.0.0.1", first: "10.0.0.2", count: 1 },
	{ what: "a /31 has none", cidr: "10.0.0.0/31", gateway: "10.0.0.1", count: 0 },
	{ what: "a /32 has none", cidr: "10.0.0.0/32", gateway: "10.0.0.0", count: 0 },
	{ what: "a /126 has two", cidr: "fd00::/126", gateway: "fd00::1", first: "fd00::2", count: 2 },
	{ what: "a /127 has none", cidr: "fd00::/127", gateway: "fd00::1", count: 0 },
	{ what: "a /128 has none", cidr: "fd00::/128", gateway: "fd00::", count: 0 },
	{
		what: "a /24 has 253",
		cidr: "10.0.255.0/24",
		gateway: "10.0.255.1",
		first: "10.0.255.2",
		count: 253,
	},
];

for (const { what, cidr, gateway, first, count } of table) {
	t.test(what, async (t) => {
		const pool = new AddressPool();
		const got: string[] = [];
		for (let next = pool.reserve([{ cidr, gateway }]); next !== undefined; ) {
			t.same(next.gateways, [gateway]);
			got.push(...next.addresses);
			next = pool.reserve([{ cidr, gateway }]);
		}
		t.equal(new Set(got).size, count);
		t.equal(got[0], first);
		t.notOk(got.includes(gateway));
	});
}

t.test("a freed address is reused last, also after a restart", async (t) => {
	const nets = [{ cidr: "10.0.0.0/24", gateway: "10.0.0.1" }];
	const pool = new AddressPool();
	const first = pool.reserve(nets)!.addresses;
	pool.free(first);
	t.same(pool.reserve(nets)?.addresses, ["10.0.0.3"]);
	const restarted = new AddressPool();
	restarted.adopt(["10.0.0.3"]);
	t.same(restarted.reserve(nets)?.addresses, ["10.0.0.4"]);
});

t.test("a large IPv6 network is fast, and a second network takes over", async (t) => {
	const pool = new AddressPool();
	const nets = [
		{ cidr: "10.0.0.0/30", gateway: "10.0.0.1" },
		{ cidr: "10.0.1.0/30", gateway: "10.0.1.1" },
		{ cidr: "fd00::/8", gateway: "fd00::1" },
	];
	t.same(pool.reserve(nets), {
		addresses: ["10.0.0.2", "fd00::2"],
		gateways: ["10.0.0.1", "fd00::1"],
	});
	t.same(pool.reserve(nets), {
		addresses: ["10.0.1.2", "fd00::3"],
		gateways: ["10.0.1.1", "fd00::1"],
	});
	t.equal(pool.reserve(nets), undefined, "IPv6 alone is not enough where the Node has both");
	t.equal(pool.hasRoom([]), false, "no pod CIDR is no room");
	t.equal(pool.isWithin(["10.0.1.2", "fd00::3"], nets), true);
	t.equal(pool.isWithin(["10.0.2.2", "fd00::3"], nets), false);
});

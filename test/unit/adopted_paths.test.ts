import t from "tap";
import type { BpfMap } from "#native";
import { adoptedPaths } from "../../src/reconcile/maps/adopted_paths.js";
import { Path, PathProof, type Peer, PeerFlag, ProbeWay } from "../../src/tables/generated.js";

function peer(path: Path, mtu = 1500): Peer {
	const remote = "192.168.1.2";
	return {
		path,
		outerFamily: 4,
		port: 0,
		vni: 0,
		local: "",
		remote,
		mtu,
		flags: 0,
		policyEpoch: 0,
		nodeHash: 1n,
	};
}

/** Simulated path_proofs: nanoseconds before now, by index and path. */
function proofs(entries: Record<number, [answered: bigint, large: bigint]>): BpfMap {
	const now = process.hrtime.bigint();
	const time = (ago: bigint) => (ago < 0n ? 0n : now - ago);
	return {
		lookup(key: Buffer) {
			const entry = entries[key.readUInt32LE()];
			if (entry === undefined) return undefined;
			return PathProof.encode({
				sourceMac: 0n,
				answeredAt: time(entry[0]),
				largeAnsweredAt: time(entry[1]),
			});
		},
	} as unknown as BpfMap;
}

const SECOND = 1_000_000_000n;
const at = (index: number) => index * 2 + ProbeWay.DIRECT;

t.test("direct paths and the age of their proofs", async (t) => {
	const peers = new Map([
		[0, peer(Path.DIRECT)],
		[1, peer(Path.ROUTED, 1400)],
		[2, { ...peer(Path.GENEVE), flags: PeerFlag.TUNNELLED_ONLY }],
		[3, peer(Path.DOWN, 0)],
		[4, peer(Path.NONE, 0)],
		[5, peer(Path.DIRECT)],
		[6, peer(Path.DIRECT)],
	]);
	const found = adoptedPaths(
		peers,
		proofs({
			[at(0)]: [SECOND, 60n * SECOND],
			[at(1)]: [2n * SECOND, -1n],
			[at(2)]: [SECOND, SECOND],
			[at(3)]: [SECOND, SECOND],
			[5 * 2 + ProbeWay.TUNNEL]: [SECOND, SECOND],
			[at(6)]: [-1n, -1n],
		}),
	);
	const direct = [...found].filter(([, path]) => path.direct).map(([index]) => index);
	t.same(direct, [0, 1, 6], "no tunnel, none that is down, none without a proof's entry");
	t.same([...found.keys()], [0, 1, 2, 3, 6], "no peer, no path");
	t.equal(found.get(2)?.flags, PeerFlag.TUNNELLED_ONLY, "what the peer announced");
	t.equal(found.get(0)?.mtu, 1500);
	t.equal(found.get(1)?.mtu, 1400, "as much as went");
	const near = (value: number | undefined, ms: number) => Math.abs((value ?? 0) - ms) < 500;
	t.ok(near(found.get(0)?.answeredAgo, 1000));
	t.ok(near(found.get(0)?.largeAnsweredAgo, 60_000));
	t.ok(near(found.get(1)?.answeredAgo, 2000));
	t.equal(found.get(1)?.largeAnsweredAgo, Number.POSITIVE_INFINITY, "never");
	t.equal(found.get(6)?.answeredAgo, Number.POSITIVE_INFINITY);
});

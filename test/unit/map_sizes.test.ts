/** What maps take of the kernel's memory, by the machine's CPUs and the cluster's size. */
import { fileURLToPath } from "node:url";
import t from "tap";
import { mapMemory, peerSlotsFor, type SizedMap } from "../../src/reconcile/maps/map_sizes.js";
import { ObjectFile } from "../../src/reconcile/programs/object_file.js";
import { Limit } from "../../src/tables/generated.js";

const MB = 2 ** 20;
const object = ObjectFile.read(
	fileURLToPath(new URL("../../build/bpf/fairway.bpf.o", import.meta.url)),
);

/** The object's maps as they are made for so many peers on so many CPUs. */
function memoryFor(peers: number, cpus: number) {
	const maps = new Map<string, SizedMap>();
	for (const [name, { type, flags, maxEntries, key, value }] of object.maps)
		maps.set(name, {
			...{ type, flags, keySize: key?.size ?? 0, valueSize: value?.size ?? 0 },
			maxEntries: name === "peer_counters" ? peerSlotsFor(peers, cpus) * 2 : maxEntries,
		});
	return mapMemory(maps, cpus);
}

t.test("peers that have counters: a power of two, by the memory that it costs", async (t) => {
	t.equal(peerSlotsFor(10, 2), 16_384, "a small machine never needs other maps");
	t.equal(peerSlotsFor(0, 128), 256);
	t.equal(peerSlotsFor(256, 128), 256);
	t.equal(peerSlotsFor(257, 128), 512);
	t.equal(peerSlotsFor(5_000, 128), 8_192);
	t.equal(peerSlotsFor(1, 8_192), 64, "the least");
	t.equal(peerSlotsFor(Limit.PEERS_MAX, 4_096), Limit.PEERS_MAX, "the most");
});

t.test(
	"per-CPU memory goes with the cluster, not with the CPUs a machine might have",
	async (t) => {
		for (const cpus of [2, 16, 64, 128, 256])
			t.ok(memoryFor(10, cpus).perCpu <= 32 * MB, `${cpus} CPUs, 10 peers`);
		t.ok(memoryFor(10, 128).perCpu < 8 * MB, `${memoryFor(10, 128).perCpu} bytes`);
		const { total, maps } = memoryFor(10, 2);
		t.equal(
			Object.values(maps).reduce((sum, bytes) => sum + bytes, 0),
			total,
		);
		t.ok((maps.flows ?? 0) >= Limit.FLOWS_DEFAULT * 128);
	},
);

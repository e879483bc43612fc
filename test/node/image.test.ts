/**
 * The image as it runs: its files alone, with a read-only root, without anything of this machine.
 *
 *   mount namespace, network namespace
 *   ┌───────────────────────────────────┐
 *   │ chroot build/image-root (ro)      │
 *   │   /run/fairway /tmp    tmpfs      │      eth0 ── veth
 *   │   /sys/fs/bpf          bpffs      │
 *   └───────────────────────────────────┘
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { entriesOf } from "../../scripts/image/oci_archive.mjs";
import { ARCHIVE, ROOT } from "../../scripts/image.mjs";

const UNPACKED_MAX = 180e6;

function make(): string {
	const made = spawnSync("node", ["scripts/run.mjs", "image"], { encoding: "utf8" });
	t.equal(made.status, 0, made.stderr);
	return createHash("sha256").update(readFileSync(ARCHIVE)).digest("hex");
}

const first = make();

t.test("the image is the same each time, and at most 180 MB unpacked", async (t) => {
	t.equal(make(), first);
	const bytes = entriesOf(ROOT).reduce((sum, { size }) => sum + size, 0);
	t.comment(
		`${(bytes / 1e6).toFixed(1)} MB unpacked, archive ${(statSync(ARCHIVE).size / 1e6).toFixed(1)} MB`,
	);
	t.ok(bytes <= UNPACKED_MAX, `${bytes} bytes`);
});

t.test("the image's Node.js has long-term support", async (t) => {
	const { stdout } = spawnSync(join(ROOT, "usr/bin/node"), ["-p", "process.release.lts"], {
		encoding: "utf8",
	});
	t.match(stdout, /^[A-Z]\w+\n$/);
});

t.test("the agent runs with nothing but the image's files, and cleans up", async (t) => {
	const base = t.testdir();
	const root = join(base, "root");
	const script = join(base, "run.sh");
	writeFileSync(
		script,
		`set -eu
		mkdir ${root}; mount --bind ${ROOT} ${root}; mount -o remount,bind,ro ${root}
		mount -t proc proc ${root}/proc; mount -t sysfs sysfs ${root}/sys; mount --rbind /dev ${root}/dev
		for at in run/fairway tmp etc/fairway; do mount -t tmpfs tmpfs ${root}/$at; done
		image="env -i PATH=/usr/local/bin:/usr/bin $(command -v chroot) ${root}"
		$image fairway install --bpffs /sys/fs/bpf
		$image fairway install --bpffs /sys/fs/bpf
		mkdir ${root}/tmp/bin; $image fairway install --cni-bin-dir /tmp/bin
		CNI_COMMAND=VERSION ${root}/tmp/bin/fairway-cni < /dev/null | grep -c 1.1.0 >&2
		echo > ${root}/etc/fairway/fairway.yaml
		mkdir ${root}/tmp/manifests; cp examples/two-subnets/nodes.yaml ${root}/tmp/manifests/
		ip link set lo up; ip link add eth0 type veth peer name peer
		ip addr add 192.168.1.1/24 dev eth0; ip link set eth0 up; ip link set peer up
		ip route add default via 192.168.1.254
		$image fairway agent --node-name node1 --config /etc/fairway/fairway.yaml --manifests /tmp/manifests > ${base}/log & agent=$!
		$image fairway status --wait 30 -o json > ${base}/status || { cat ${base}/log >&2; exit 1; }
		kill $agent; wait $agent
		$image fairway cleanup > ${base}/cleanup
		`.replace(/^\t+/gm, ""),
	);
	const { status, stdout, stderr } = spawnSync(
		"unshare",
		["--mount", "--net", "--pid", "--fork", "bash", script],
		{ encoding: "utf8", timeout: 90_000 },
	);
	t.equal(status, 0, stdout + stderr);
	t.match(stdout, "Mounted the BPF file system at /sys/fs/bpf\nThe BPF file system is mounted at");
	t.match(stdout, "installed fairway-cni, loopback, portmap");
	const said = JSON.parse(readFileSync(join(base, "status"), "utf8"));
	t.equal(said.ready, true);
	t.equal(said.peers.nodes, 3);
	t.match(readFileSync(join(base, "cleanup"), "utf8"), "Removed everything");
});

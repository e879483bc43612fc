/**
 * A real container runtime, containerd, attaches and detaches containers through fairway-cni, on a
 * Node with the real agent.
 *
 *   containers one, two        pod2a (a namespace)
 *          │ eth0                 │ eth0
 *        node1 ──── switch ──── node2
 */
import {
	copyFileSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { Lab } from "../../src/lab/lab.js";
import { run } from "../../src/lab/namespace.js";
import { exampleDirectory, root } from "../../src/lab/repository.js";
import { until } from "../../src/lab/until.js";
import { Containerd } from "../tools/containerd.js";

function writeManifests(directory: string): void {
	copyFileSync(join(exampleDirectory, "lab.yaml"), join(directory, "lab.yaml"));
	const nodes = readFileSync(join(exampleDirectory, "nodes.yaml"), "utf8").split(/^---$/m);
	writeFileSync(join(directory, "nodes.yaml"), nodes.slice(0, 2).join("---"));
	const pods = readFileSync(join(exampleDirectory, "pods.yaml"), "utf8").split(/^---$/m);
	const wanted = pods.filter((pod) => /name: pod2a$/m.test(pod));
	writeFileSync(join(directory, "pods.yaml"), wanted.join("---"));
	writeFileSync(join(directory, "config.yaml"), "trafficEncapMode: hybrid\nxdp: native\n");
}

t.test("containerd", async (t) => {
	const manifests = mkdtempSync(join(tmpdir(), "fairway-manifests-"));
	t.teardown(() => rmSync(manifests, { recursive: true, force: true }));
	writeManifests(manifests);
	const optBefore = readdirSync("/opt");
	const lab = await Lab.up({ name: `fwc-${process.pid}`, manifests });
	t.teardown(() => lab.down());
	const agent = lab.agent("node1");
	const node = lab.namespace("node1");
	const containerd = await Containerd.up({
		node,
		plugin: join(root, "bin/fairway-cni"),
		cni: {
			cniVersion: "1.0.0",
			name: "fairway",
			plugins: [{ type: "fairway-cni", socket: agent.socket }],
		},
	});
	t.teardown(() => containerd.down());

	const attached = async () => (await agent.endpoints()).map(({ containerId }) => containerId);
	const hostSides = async () =>
		(await node.run(["ip", "-o", "link", "show", "type", "veth"])).stdout
			.split("\n")
			.filter((line) => /fairway[0-9a-f]{8}/.test(line));
	const reaches = async (id: string, address: string) =>
		(await containerd.exec(id, "/bin/ping", "-c", "1", "-W", "2", address)).status === 0;

	containerd.start("one");
	containerd.start("two");
	await until("both run", async () => {
		const running = [await containerd.isRunning("one"), await containerd.isRunning("two")];
		return running.every(Boolean);
	});
	const endpoints = await agent.endpoints();
	t.same(endpoints.map(({ containerId }) => containerId).sort(), ["default-one", "default-two"]);
	const one = endpoints.find(({ containerId }) => containerId === "default-one")!;
	const two = endpoints.find(({ containerId }) => containerId === "default-two")!;
	const remote = [lab.address("pod2a", 4), lab.address("pod2a", 6)];
	t.match(one.netns, /^\/proc\/\d+\/ns\/net$/, "the namespace is the container's");

	await t.test("a container has its addresses", async (t) => {
		const inside = (await containerd.exec("one", "/bin/ip", "addr", "show", "eth0")).stdout;
		t.match(inside, `inet ${one.addresses[0]}/32`);
		t.match(inside, `inet6 ${one.addresses[1]}/128`);
		t.match(inside, one.mac);
		t.match(inside, "mtu 1500");
	});

	await t.test("it reaches its gateway, its neighbour and a Pod on another Node", async (t) => {
		const gateways = ["10.244.1.1", "fd00:10:244:1::1"];
		for (const address of [...gateways, ...two.addresses, ...remote])
			t.ok(await reaches("one", address), address);
		// With XDP they arrive by a redirect into the container's interface, which needs its GRO.
		t.equal((await agent.status()).xdp, "native");
		for (const address of one.addresses) await lab.run("pod2a", ["ping", "-qc1", "-W2", address]);
	});

	await t.test("nothing is left of an ended container", async (t) => {
		t.equal((await containerd.kill("one")).stderr, "");
		t.same(await attached(), ["default-two"]);
		t.equal((await hostSides()).length, 1);
	});

	await t.test(
		"while the agent is down: traffic goes on, containers can end, none can start",
		async (t) => {
			containerd.start("three");
			await until("it runs", () => containerd.isRunning("three"));
			await agent.stop("SIGKILL");
			for (const address of remote) t.ok(await reaches("two", address), address);
			t.equal((await containerd.kill("two")).stderr, "");
			const { status, stderr } = await containerd.start("early").ended;
			t.not(status, 0);
			t.match(stderr, /Cannot reach the agent at/, "the operator reads why");
			await agent.start();
			await until("the agent has caught up", async () => (await attached()).length === 1);
			t.same(await attached(), ["default-three"]);
			for (const address of remote) t.ok(await reaches("three", address), address);
			await containerd.kill("three");
			t.same([await attached(), await hostSides()], [[], []]);
		},
	);

	t.notMatch(
		readFileSync("/proc/self/mounts", "utf8"),
		/ \/(etc|opt) |fairway-containerd-\w+\/scratch/,
		"the machine's own mounts are as they were",
	);
	t.same(readdirSync("/opt"), optBefore, "containerd leaves nothing there");
	t.notMatch((await run(["ip", "-o", "link"])).stdout, "fairway");
});

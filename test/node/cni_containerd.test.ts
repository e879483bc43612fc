/** A real container runtime, containerd, attaches and detaches containers through fairway-cni. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { CniNode, defaultView } from "../tools/cni_node.js";
import { Containerd } from "../tools/containerd.js";

const root = new URL("../..", import.meta.url).pathname;

t.test("containerd", async (t) => {
	const node = await CniNode.up("ctd");
	t.teardown(() => node.down());
	const containerd = await Containerd.up({
		node: node.namespace,
		plugin: join(root, "bin/fairway-cni"),
		cni: {
			cniVersion: "1.0.0",
			name: "fairway",
			plugins: [{ type: "fairway-cni", socket: node.socket }],
		},
	});
	t.teardown(() => containerd.down());

	containerd.start("one");
	containerd.start("two");
	await until("both run", async () => {
		const running = [await containerd.isRunning("one"), await containerd.isRunning("two")];
		return running.every(Boolean);
	});
	const { endpoints } = await node.state();
	t.equal(endpoints.length, 2);
	const one = endpoints.find(({ containerId }) => containerId.endsWith("one"));
	const two = endpoints.find(({ containerId }) => containerId.endsWith("two"));
	if (one === undefined || two === undefined)
		throw new Error("Cannot find the containers' records");
	t.match(one.netns, /^\/proc\/\d+\/ns\/net$/, "the namespace is the container's");

	const inside = (await containerd.exec("one", "/bin/ip", "addr", "show", "eth0")).stdout;
	t.match(inside, `inet ${one.addresses[0]}/32`);
	t.match(inside, `inet6 ${one.addresses[1]}/128`);
	t.match(inside, one.mac);
	t.match(inside, `mtu ${defaultView.podMTU}`);
	for (const address of [...defaultView.gateways, ...two.addresses]) {
		const ping = await containerd.exec("one", "/bin/ping", "-c", "2", "-W", "2", address);
		t.equal(ping.status, 0, `it reaches ${address}`);
	}

	await t.test("an end of the container leaves nothing of it", async (t) => {
		t.equal((await containerd.kill("one")).stderr, "");
		t.same(
			(await node.state()).endpoints.map(({ containerId }) => containerId),
			[two.containerId],
		);
		await containerd.kill("two");
		t.same(await node.traces(), []);
	});

	await t.test("the operator reads the error of a Node that is not ready", async (t) => {
		await node.order("view", { view: null });
		const { status, stderr } = await containerd.start("early").ended;
		t.not(status, 0);
		t.match(stderr, /Cannot attach Pods: wanted a Node that is ready/);
		t.same(await node.traces(), []);
		await node.order("view", { view: defaultView });
	});

	await t.test("a container ends while the agent is down", async (t) => {
		containerd.start("late");
		await until("it runs", () => containerd.isRunning("late"));
		await node.kill();
		t.equal((await containerd.kill("late")).stderr, "");
		await node.start();
		t.same(await node.traces(), []);
	});

	t.notMatch(
		readFileSync("/proc/self/mounts", "utf8"),
		/ \/(etc|opt) |fairway-containerd-\w+\/scratch/,
		"the machine's own mounts are as they were",
	);
	t.notMatch((await run(["ip", "-o", "link"])).stdout, "fairway");
});

/** What other CNIs have left, in a namespace that looks like a Node that had them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { Namespace, run } from "../../src/lab/namespace.js";
import { IpRoute } from "../../src/linux/iproute.js";
import { findLeftovers } from "../../src/report/leftovers.js";

t.test("interfaces, routes, chains and configurations of other CNIs", async (t) => {
	const node = new Namespace(`fwo-${process.pid}`);
	const dir = mkdtempSync(join(tmpdir(), "fairway-leftovers-"));
	await run(["ip", "netns", "add", node.name]);
	t.teardown(async () => {
		await run(["ip", "netns", "del", node.name], { mayFail: true });
		rmSync(dir, { recursive: true });
	});
	const ip = new IpRoute(node.path);
	writeFileSync(join(dir, "05-fairway.conflist"), '{"plugins":[{"type":"fairway-cni"}]}');
	writeFileSync(join(dir, "10-broken.conf"), "{");
	writeFileSync(join(dir, "11-odd.conflist"), '{"plugins":[null,{"type":1}]}');
	await node.script(`
		ip link add fairway0a1b2c3d type veth peer name eth0
		ip link add docker0 type bridge
		iptables -t nat -N KUBE-SERVICES
		iptables -t nat -N DOCKER`);
	t.same(await findLeftovers(ip, dir), [], "nothing of those that work beside Fairway");

	writeFileSync(
		join(dir, "10-flannel.conflist"),
		'{"name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap"}]}',
	);
	await node.script(`
		for name in cni0 flannel.1 kube-bridge antrea-gw0; do ip link add $name type bridge; done
		ip link add cilium_host type veth peer name cilium_net
		for n in 1 2 3 4 5 6 7; do ip link add cali0000000000$n type bridge; done
		ip address add 10.42.0.0/32 dev flannel.1
		ip link set flannel.1 up
		ip route add 10.42.1.0/24 via 10.42.1.0 dev flannel.1 onlink
		iptables -t nat -N FLANNEL-POSTRTG
		ip6tables -t nat -N FLANNEL-POSTRTG
		iptables -N KUBE-ROUTER-FORWARD
		ip6tables -N CILIUM_FORWARD`);
	const found = await findLeftovers(ip, dir);
	t.match(
		found.map(({ cni, interfaces, chains, files }) => [cni, interfaces.sort(), chains, files]),
		[
			[
				...["flannel", ["cni0", "flannel.1"], ["FLANNEL-POSTRTG"]],
				[join(dir, "10-flannel.conflist")],
			],
			["kube-router", ["kube-bridge"], ["KUBE-ROUTER-FORWARD"], []],
			["Cilium", ["cilium_host", "cilium_net"], ["CILIUM_FORWARD"], []],
			["Calico", { length: 7 }, [], []],
			["Antrea", ["antrea-gw0"], [], []],
		],
	);
	const [flannel, router, , calico] = found;
	t.ok(flannel!.routes >= 1);
	t.strictSame(flannel?.advice.slice(0, 2), [
		"Remove them if flannel no longer runs on this Node.",
		`$ rm ${dir}/10-flannel.conflist`,
	]);
	t.ok(flannel?.advice.includes("$ ip link del dev cni0"));
	t.match(router?.advice[0], /unless kube-router runs on this Node beside Fairway/);
	t.equal(calico?.advice.at(-1), "The same for 2 more of its interfaces.");

	// The other end of a veth goes with it.
	for (const line of found.flatMap(({ advice }) => advice))
		if (line.startsWith("$ ")) await node.script(line.slice(2), { mayFail: true });
	t.strictSame(
		(await findLeftovers(ip, dir)).map(({ cni, interfaces }) => [cni, interfaces.length]),
		[
			["flannel", 0],
			["kube-router", 0],
			["Cilium", 0],
			["Calico", 2],
		],
		"what was advised is done",
	);
});

t.test(
	"what kube-proxy has left, in each of its modes, where all Services are Fairway's",
	async (t) => {
		const node = new Namespace(`fwk-${process.pid}`);
		await run(["ip", "netns", "add", node.name]);
		t.teardown(async () => {
			await run(["ip", "netns", "del", node.name], { mayFail: true });
		});
		const ip = new IpRoute(node.path);
		const find = (isProxyReplaced = true) => findLeftovers(ip, "", isProxyReplaced);
		// kubelet's, and those of a kube-router that announces routes, stay.
		await node.script(`
		ip link set lo up
		iptables -t mangle -N KUBE-KUBELET-CANARY
		iptables -t mangle -N KUBE-IPTABLES-HINT
		iptables -N KUBE-FIREWALL
		nft add table ip someones`);
		t.same(await find(), []);

		await node.script(`
		ip link add kube-ipvs0 type bridge
		for chain in KUBE-SERVICES KUBE-NODEPORTS KUBE-SVC-NPX46M4PTMTKRN6Y KUBE-MARK-MASQ; do
			iptables -t nat -N $chain
			ip6tables -t nat -N $chain
		done
		iptables -t nat -A KUBE-SERVICES -d 127.1.1.1 -p udp -j DNAT --to-destination 127.0.0.1:9
		iptables -t nat -A OUTPUT -j KUBE-SERVICES
		nft add table ip kube-proxy
		nft add table ip6 kube-proxy`);
		// One translated connection, one that is not; both stay in the kernel's table without an answer.
		const send = `const s = require("node:dgram").createSocket("udp4"); s.on("error", () => {});
		s.send("x", 5353, "127.1.1.1", () => s.send("x", 9, "127.0.0.2", () => s.close()))`;
		await node.run([process.execPath, "-e", send]);
		t.same(await find(false), [], "kube-proxy beside Fairway is no leftover");
		const [found, ...others] = await find();
		t.same(others, []);
		t.match(found, {
			cni: "kube-proxy",
			interfaces: ["kube-ipvs0"],
			chains: ["KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-SERVICES", "KUBE-SVC-NPX46M4PTMTKRN6Y"],
			tables: ["ip kube-proxy", "ip6 kube-proxy"],
			connections: 1,
		});
		const commands = found?.advice.filter((line) => line.startsWith("$ "));
		t.strictSame(commands, [
			"$ kube-proxy --cleanup",
			"$ nft delete table ip kube-proxy",
			"$ nft delete table ip6 kube-proxy",
			"$ ip link del dev kube-ipvs0",
			"$ conntrack -D -p udp --dst-nat",
		]);
		// As kube-proxy --cleanup does.
		await node.script(`
		for tool in iptables ip6tables; do $tool -t nat -F; $tool -t nat -X; done
		${commands
			?.slice(1, 4)
			.map((line) => line.slice(2))
			.join("\n")}`);
		t.same(await find(), [], "what was advised is done");
	},
);

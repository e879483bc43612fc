/** fairway-cni and the agent's CNI side with real namespaces; the topology is in cni_node.ts. */
import {
	mkdirSync,
	readdirSync,
	readFileSync,
	rmdirSync,
	rmSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import t from "tap";
import { ask } from "../../src/api/client.js";
import { ApiServer, RequestError } from "../../src/api/server.js";
import { monotonicMs } from "../../src/cni/deletions.js";
import { hostInterfaceNames } from "../../src/cni/endpoint.js";
import { run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { CniNode, defaultView } from "../tools/cni_node.js";

/** The kernel removes a namespace asynchronously. */
const vanished = (node: CniNode) =>
	until("a Pod without interface is reported", async () =>
		(await node.state()).problems.some((problem) => /has no interface any more/.test(problem)),
	);

const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";

t.test("ADD, CHECK, DEL", async (t) => {
	const node = await CniNode.up("life");
	t.teardown(() => node.down());
	const pod = await node.pod("pod");
	const host = hostInterfaceNames(pod.name, "eth0")[0]!;
	const variables = { CNI_ARGS: args };
	const first = await node.call("ADD", pod, { config: { cniVersion: "1.1.0" }, variables });
	const mac = first.body?.interfaces[1]?.mac ?? "";

	t.strictSame(first.body, {
		cniVersion: "1.1.0",
		interfaces: [
			{ name: host, mac: defaultView.gatewayMac, mtu: 1450 },
			{ name: "eth0", mac, mtu: 1450, sandbox: pod.path },
		],
		ips: [
			{ interface: 1, address: "10.99.1.2/32", gateway: "10.99.1.1" },
			{ interface: 1, address: "fd99:1::2/128", gateway: "fd99:1::1" },
		],
		routes: [
			{ dst: "0.0.0.0/0", gw: "10.99.1.1" },
			{ dst: "::/0", gw: "fd99:1::1" },
		],
		dns: {},
	});
	t.match((await node.state()).endpoints, [
		{
			containerId: pod.name,
			namespace: "default",
			name: "web",
			netns: pod.path,
			hostInterface: host,
		},
	]);

	await t.test("the Pod has the interface of the result", async (t) => {
		const { stdout } = await pod.script(
			"ip -o addr show dev eth0; ip route; ip -6 route; ip neigh; ethtool -k eth0; ip link show eth0; echo accept_dad=$(cat /proc/sys/net/ipv6/conf/eth0/accept_dad)",
		);
		t.match(stdout, "inet 10.99.1.2/32");
		t.match(stdout, "inet6 fd99:1::2/128 scope global");
		t.notMatch(stdout, /global.*tentative/, "no address waits for duplicate address detection");
		t.match(stdout, "accept_dad=0");
		t.match(stdout, "default via 10.99.1.1 dev eth0");
		t.match(stdout, "default via fd99:1::1 dev eth0");
		t.match(stdout, `10.99.1.1 dev eth0 lladdr ${defaultView.gatewayMac} PERMANENT`);
		t.match(stdout, `fd99:1::1 dev eth0 lladdr ${defaultView.gatewayMac} PERMANENT`);
		t.match(stdout, "generic-receive-offload: on");
		t.match(stdout, "tx-sctp-segmentation: off");
		t.match(stdout, `link/ether ${mac}`);
		const link = await node.namespace.run(["ip", "-d", "link", "show", host]);
		t.match(link.stdout, "addrgenmode none");
		t.match(link.stdout, `alias fairway fairway/${pod.name}/eth0`);
		t.match(link.stdout, defaultView.gatewayMac);
	});

	await t.test("the Pod reaches its gateway and is reachable, over both families", async () => {
		await pod.script("ping -qc1 -W2 10.99.1.1; ping -qc1 -W2 fd99:1::1");
		await node.namespace.script("ping -qc1 -W2 10.99.1.2; ping -qc1 -W2 fd99:1::2");
	});

	await t.test("repeated ADD returns the same result, also after kill -9", async (t) => {
		const config = { cniVersion: "1.1.0" };
		t.strictSame((await node.call("ADD", pod, { config, variables })).body, first.body);
		await node.kill();
		await node.start();
		t.strictSame((await node.call("ADD", pod, { config, variables })).body, first.body);
		t.equal((await node.state()).endpoints.length, 1);
	});

	const check = { config: { cniVersion: "1.1.0", prevResult: first.body } };
	await t.test("CHECK finds nothing wrong", async (t) => {
		t.strictSame(await node.call("CHECK", pod, check), {
			status: 0,
			body: undefined,
			addresses: [],
		});
	});

	await t.test("DEL leaves nothing, and can be repeated", async (t) => {
		t.not((await node.traces()).length, 0);
		for (let i = 0; i < 2; i++)
			t.strictSame(await node.call("DEL", pod), { status: 0, body: undefined, addresses: [] });
		t.same(await node.traces(), []);
		t.same((await node.state()).published, []);
		t.notMatch((await pod.run(["ip", "-o", "link"])).stdout, "eth0");
		t.match((await node.call("CHECK", pod, check)).body, { code: 3, cniVersion: "1.1.0" });
	});

	await t.test(
		"a DEL that cannot remove the record still ends the Pod, and the next one does",
		async (t) => {
			const other = await node.pod("record");
			const { addresses } = await node.add(other);
			const name = hostInterfaceNames(other.name, "eth0")[0]!;
			const record = join(node.runDir, "endpoints", `${name}.json`);
			const text = readFileSync(record, "utf8");
			rmSync(record);
			mkdirSync(record);
			t.equal((await node.call("DEL", other)).status, 1);
			t.same((await node.state()).published, [], "the data path knows");
			rmdirSync(record);
			writeFileSync(record, text);
			t.equal((await node.call("DEL", other)).status, 0);
			t.same(await node.traces(), [], "nothing comes back with a restart");
			await node.order("view", { view: { ...defaultView, podCIDRs: ["10.99.1.0/29"] } });
			for (let n = 0; n < 7; n++) {
				const answer = await node.add(other);
				await node.call("DEL", other);
				if (answer.addresses[0] === addresses[0]) break;
				t.not(n, 6, "its address is free again");
			}
			await node.order("view", { view: defaultView });
		},
	);

	await t.test("a request without content is answered", async (t) => {
		t.match(await ask(node.socket, "POST", "/cni"), { status: 1, body: { code: /^\d+$/ } });
	});

	await t.test("the next Pod gets a free address; DEL needs no namespace", async (t) => {
		const next = await node.pod("next");
		t.match((await node.add(next)).addresses, [/^10\.99\.1\.\d+$/, /^fd99:1::/]);
		await run(["ip", "netns", "del", next.name]);
		t.equal((await node.call("DEL", next, { variables: { CNI_NETNS: "" } })).status, 0);
		t.same(await node.traces(), []);
	});
});

/** Damages of an attachment, where they happen, and the result of CHECK. */
const damages: { what: string; in: "pod" | "node"; script: string; says: RegExp }[] = [
	{ what: "interface down", in: "pod", script: "ip link set eth0 down", says: /eth0 is down/ },
	{
		what: "another MAC",
		in: "pod",
		script: "ip link set eth0 address 02:00:00:00:00:99",
		says: /has the MAC 02:00:00:00:00:99/,
	},
	{
		what: "smaller MTU",
		in: "pod",
		script: "ip link set eth0 mtu 1400",
		says: /MTU 1400, not 1450/,
	},
	{ what: "GRO off", in: "pod", script: "ethtool -K eth0 gro off", says: /GRO off/ },
	{
		what: "IPv4 address gone",
		in: "pod",
		script: "ip addr add 10.0.0.1/32 dev eth0; ip addr del 10.99.1.2/32 dev eth0",
		says: /address 10\.99\.1\.2 is missing/,
	},
	{
		what: "IPv6 address gone",
		in: "pod",
		script: "ip addr del fd99:1::2/128 dev eth0",
		says: /address fd99:1::2 is missing/,
	},
	{
		what: "default route gone",
		in: "pod",
		script: "ip -6 route del default",
		says: /default route by fd99:1::1 on eth0 is missing/,
	},
	{
		what: "gateway's neighbour gone",
		in: "pod",
		script: "ip neigh del 10.99.1.1 dev eth0",
		says: /neighbour 10\.99\.1\.1 on eth0/,
	},
	{
		what: "the Node's route gone",
		in: "node",
		script: "ip route del 10.99.1.2/32",
		says: /route to 10\.99\.1\.2 by fairway\w+ is missing/,
	},
	{
		what: "the Node's neighbour gone",
		in: "node",
		script: "ip neigh del fd99:1::2 dev HOST",
		says: /neighbour fd99:1::2 on fairway/,
	},
	{
		what: "host interface gone",
		in: "node",
		script: "ip link del HOST",
		says: /interface fairway\w+ is missing/,
	},
];

t.test("CHECK finds each damage, and ADD repairs it with the same addresses", async (t) => {
	const node = await CniNode.up("damage");
	t.teardown(() => node.down());
	const pod = await node.pod("pod");
	const host = hostInterfaceNames(pod.name, "eth0")[0]!;
	const { body: prevResult, addresses } = await node.add(pod);
	for (const damage of damages) {
		t.test(damage.what, async (t) => {
			const where = damage.in === "pod" ? pod : node.namespace;
			await where.script(damage.script.replaceAll("HOST", host));
			const { body } = await node.call("CHECK", pod, { config: { prevResult } });
			t.match(body, { code: 101, details: damage.says });
			const again = await node.add(pod);
			t.same(again.addresses, addresses);
			t.strictSame(again.body, prevResult);
			t.equal((await node.call("CHECK", pod, { config: { prevResult } })).status, 0);
		});
	}

	await t.test("an unattached data path", async (t) => {
		await node.order("fail", { failure: "no program" });
		const { body } = await node.call("CHECK", pod, { config: { prevResult } });
		t.match(body, { code: 101, details: "The data path is not attached: no program" });
		await node.order("fail", { failure: null });
	});

	await t.test("a prevResult of another attachment", async (t) => {
		const config = { prevResult: { ips: [{ address: "10.99.1.77/32" }], interfaces: [] } };
		t.match((await node.call("CHECK", pod, { config })).body, {
			code: 101,
			details:
				/prevResult lacks its address 10\.99\.1\.2\.\n.*\nprevResult lacks its interface eth0/s,
		});
	});

	await t.test("a default route replaced by a later plugin is not an error", async (t) => {
		await pod.script("ip -6 route del default");
		const routes = prevResult?.routes.filter(({ dst }) => dst !== "::/0");
		const config = { prevResult: { ...prevResult, routes } };
		t.equal((await node.call("CHECK", pod, { config })).status, 0);
	});
});

t.test("failed attachments leave nothing behind", async (t) => {
	const node = await CniNode.up("errors");
	t.teardown(() => node.down());
	const pod = await node.pod("pod");
	const plainFile = join(node.runDir, "file");
	writeFileSync(plainFile, "");

	for (const [what, path, says] of [
		[
			"a namespace that is missing",
			"/run/netns/fwc-none",
			/CNI_NETNS: .*fwc-none, which is not there/,
		],
		["a plain file", plainFile, /CNI_NETNS: .*, which is no namespace/],
		["the Node's own namespace", node.namespace.path, /CNI_NETNS: .*, which is the Node's/],
		["a namespace of another kind", "/proc/self/ns/uts", /.*/],
	] as const) {
		t.test(what, async (t) => {
			const answer = await node.call("ADD", pod, { variables: { CNI_NETNS: path } });
			t.equal(answer.status, 1);
			t.match(answer.body?.code, path.endsWith("uts") ? 100 : 4);
			t.match(answer.body?.msg, says);
			t.same(await node.traces(), []);
		});
	}

	await t.test("an interface name that is in use in the Pod", async (t) => {
		await pod.script("ip link add name eth0 type veth peer name eth9");
		t.match((await node.call("ADD", pod)).body, {
			code: 4,
			msg: /Cannot use CNI_IFNAME: .* already has/,
		});
		t.same(await node.traces(), []);
		t.match((await pod.run(["ip", "-o", "link"])).stdout, "eth0", "which stays");
		await pod.script("ip link del eth0");
	});

	await t.test("a default route that exists in the Pod", async (t) => {
		await pod.script(
			"ip link add name other type veth peer name eth9; ip link set other up; ip route add default dev other",
		);
		t.match((await node.call("ADD", pod)).body, {
			code: 100,
			msg: /route add 0\.0\.0\.0\/0 .*: File exists/,
		});
		t.same(await node.traces(), []);
		t.same((await node.state()).published, []);
		await pod.script("ip link del other");
	});

	await t.test("a data path that cannot be attached", async (t) => {
		await node.order("fail", { failure: "the verifier said no" });
		t.match((await node.call("ADD", pod)).body, { code: 102, msg: /the verifier said no/ });
		t.same(await node.traces(), []);
		t.same((await node.state()).endpoints, []);
		await node.order("fail", { failure: null });
	});

	await t.test("a Pod whose policies are not known is to be tried again", async (t) => {
		await node.order("fail", { failure: "its policies are not known", code: 11 });
		const variables = { CNI_ARGS: "K8S_POD_NAMESPACE=x;K8S_POD_NAME=a;K8S_POD_UID=u" };
		const failed = await node.call("ADD", pod, { variables });
		t.match(failed.body, { code: 11, msg: "its policies are not known" });
		t.same(await node.traces(), []);
		t.same((await node.state()).endpoints, []);
		await node.order("fail", { failure: null });
		await node.call("ADD", pod, { variables });
		t.match((await node.state()).endpoints, [{ namespace: "x", name: "a", uid: "u" }]);
		await node.order("fail", { failure: "its policies are not known", code: 11 });
		t.match((await node.call("ADD", pod, { variables })).body, { code: 11 }, "repeated, too");
		t.equal((await node.state()).endpoints.length, 1, "what is attached stays");
		await node.order("fail", { failure: null });
		await node.call("DEL", pod);
		t.same(await node.traces(), []);
	});

	await t.test("a Node and a Pod where IPv6 is off for new interfaces", async (t) => {
		const off = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6";
		await node.namespace.script(off);
		const dark = await node.pod("dark");
		await dark.script(off);
		t.equal((await node.add(dark)).addresses.length, 2);
		await dark.script("ping -qc1 -W2 fd99:1::1");
		await node.namespace.script(off.replace("1", "0"));
		await node.call("DEL", dark);
		t.same(await node.traces(), []);
	});

	await t.test("a Node that is not ready", async (t) => {
		await node.order("view", { view: null });
		t.match((await node.call("ADD", pod)).body, { code: 11 });
		const config = { cniVersion: "1.1.0" };
		t.match((await node.call("STATUS", undefined, { config })).body, { code: 50 });
		await node.order("view", { view: defaultView });
		t.equal((await node.call("STATUS", undefined, { config })).status, 0);
	});

	await t.test("none of this leaks an address", async (t) => {
		const small = { ...defaultView, podCIDRs: ["10.99.1.0/30"], gateways: ["10.99.1.1"] };
		await node.order("view", { view: small });
		const config = { cniVersion: "1.1.0" };
		t.same((await node.add(pod)).addresses, ["10.99.1.2"]);
		const second = await node.pod("second");
		t.match((await node.call("ADD", second)).body, {
			code: 11,
			msg: "Cannot allocate an address: no address of each family is free in 10.99.1.0/30",
		});
		t.match((await node.call("STATUS", undefined, { config })).body, { code: 50 });
		await node.call("DEL", pod);
		t.same((await node.add(second)).addresses, ["10.99.1.2"]);
		t.notMatch(
			(await second.run(["ip", "-6", "-o", "addr", "show", "scope", "global"])).stdout,
			"eth0",
		);

		await run(["ip", "netns", "del", second.name]);
		await vanished(node);
		t.same((await node.add(pod)).addresses, ["10.99.1.2"], "a vanished Pod's is taken back");
		t.equal((await node.state()).endpoints.length, 1);
	});
});

t.test("many concurrent calls", async (t) => {
	const node = await CniNode.up("many");
	t.teardown(() => node.down());
	const pods = await Promise.all(Array.from({ length: 16 }, (_, i) => node.pod(`p${i}`)));
	const answers = await Promise.all(pods.map((pod) => node.add(pod)));
	const addresses = answers.flatMap((answer) => answer.addresses);
	t.equal(new Set(addresses).size, 32, "each has its own addresses");
	for (const pod of pods) await pod.script("ping -qc1 -W2 10.99.1.1; ping -qc1 -W2 fd99:1::1");

	await t.test("the same ADD, many times concurrently", async (t) => {
		const pod = await node.pod("same");
		const all = await Promise.all(Array.from({ length: 5 }, () => node.add(pod)));
		for (const { body } of all) t.strictSame(body, all[0]?.body);
		t.equal((await node.state()).endpoints.length, 17);
		await node.call("DEL", pod);
	});

	await t.test("GC removes what is not in the list, of its own network only", async (t) => {
		const stranger = await node.pod("stranger");
		await node.add(stranger, { config: { name: "another" } });
		const keep = pods.slice(0, 3);
		const valid = keep.map(({ name }) => ({ containerID: name, ifname: "eth0" }));
		const config = { cniVersion: "1.1.0", "cni.dev/valid-attachments": valid };
		t.strictSame(await node.call("GC", undefined, { config }), {
			status: 0,
			body: undefined,
			addresses: [],
		});
		const left = (await node.state()).endpoints.map(({ containerId }) => containerId).sort();
		t.same(left, [...keep, stranger].map(({ name }) => name).sort());
		await keep[0]?.script("ping -qc1 -W2 10.99.1.1");
		await node.call("DEL", stranger, { config: { name: "another" } });
	});

	await Promise.all(pods.map((pod) => node.call("DEL", pod)));
	t.same(await node.traces(), []);
});

t.test("while the agent is down", async (t) => {
	const node = await CniNode.up("down");
	t.teardown(() => node.down());
	const [pod, gone, half] = [await node.pod("pod"), await node.pod("gone"), await node.pod("half")];
	const { body: prevResult } = await node.add(pod);
	await node.add(gone);

	// An ADD that was interrupted before its record was written.
	await node.add(half);
	await node.kill();
	const record = join(node.runDir, "endpoints", `${hostInterfaceNames(half.name, "eth0")[0]}.json`);
	t.equal(
		(JSON.parse(readFileSync(record, "utf8")) as { containerId: string }).containerId,
		half.name,
	);
	await run(["rm", record]);

	t.match((await node.call("ADD", await node.pod("more"))).body, { code: 11 });
	t.match((await node.call("CHECK", pod, { config: { prevResult } })).body, { code: 11 });
	await pod.script("ping -qc1 -W2 10.99.1.1");
	t.equal((await node.call("DEL", gone)).status, 0, "Pods can end");
	t.equal((await node.call("DEL", half)).status, 0);
	t.equal(readdirSync(join(node.runDir, "deletions")).length, 2);

	await node.start();
	t.same(readdirSync(join(node.runDir, "deletions")), []);
	t.same(
		(await node.state()).endpoints.map(({ containerId }) => containerId),
		[pod.name],
		"the agent has caught up",
	);
	const links = (await node.namespace.run(["ip", "-o", "link", "show", "type", "veth"])).stdout;
	t.equal(links.trim().split("\n").length, 1, "what the cut-off ADD left is gone, too");
	t.equal((await node.call("CHECK", pod, { config: { prevResult } })).status, 0);

	await t.test("an ADD after an interrupted one", async (t) => {
		await node.add(half);
		await node.kill();
		await run(["rm", record]);
		await node.start();
		await node.add(half);
		await half.script("ping -qc1 -W2 10.99.1.1");
		t.equal((await node.state()).endpoints.length, 2);
	});

	await t.test("a record that cannot be read is made again of what the kernel has", async (t) => {
		const known = (await node.state()).endpoints.find(
			({ containerId }) => containerId === pod.name,
		)!;
		await node.kill();
		writeFileSync(join(node.runDir, "endpoints", `${known.hostInterface}.json`), "{");
		await node.start();
		const { endpoints, problems } = await node.state();
		t.same(problems, []);
		const { network, containerId, ifName, addresses, mac, hostInterface, mtu } = known;
		t.match(
			endpoints.find((endpoint) => endpoint.containerId === pod.name),
			{ network, containerId, ifName, addresses, mac, hostInterface, mtu },
		);
		const more = await node.pod("more2");
		t.notSame((await node.add(more)).addresses, addresses, "its addresses stay taken");
		await node.call("DEL", more);
	});

	await t.test("DEL while an agent starts is noted, as without one", async (t) => {
		await node.kill();
		const starting = () => {
			throw new RequestError(503, "Cannot answer: the agent is starting");
		};
		const api = await ApiServer.open(node.runDir, { "POST /cni": starting });
		const late = await node.pod("late");
		t.equal((await node.call("DEL", late)).status, 0);
		t.match((await node.call("ADD", late)).body, { code: 11 });
		await api.close();
		t.equal(readdirSync(join(node.runDir, "deletions")).length, 1);
		writeFileSync(join(node.runDir, "deletions", "a,b,c.json.99999"), "{");
		utimesSync(join(node.runDir, "deletions", "a,b,c.json.99999"), 1, 1);
		writeFileSync(join(node.runDir, ".s00ffee"), "");
		await node.start();
		t.same(readdirSync(join(node.runDir, "deletions")), [], "what a killed plugin left as well");
		t.notOk(readdirSync(node.runDir).includes(".s00ffee"));
	});

	await t.test("GC is noted, and done when the agent is back", async (t) => {
		const [kept, stale] = [await node.pod("kept"), await node.pod("stale")];
		await node.add(kept);
		await node.add(stale);
		const before = (await node.state()).endpoints;
		await node.kill();
		const valid = before.filter(({ containerId }) => containerId !== stale.name);
		const list = valid.map(({ containerId, ifName }) => ({
			containerID: containerId,
			ifname: ifName,
		}));
		const config = { cniVersion: "1.1.0", "cni.dev/valid-attachments": list };
		t.equal((await node.call("GC", undefined, { config })).status, 0);
		await node.start();
		t.same((await node.state()).endpoints, valid);
		t.same(readdirSync(join(node.runDir, "deletions")), []);
		await node.call("DEL", kept);
	});

	await t.test("a note that is older than the attachment removes nothing", async (t) => {
		const pod = await node.pod("young");
		const called = monotonicMs() - 1;
		const { addresses } = await node.add(pod);
		const id = { network: "fairway", containerId: pod.name, ifName: "eth0" };
		const notes = join(node.runDir, "deletions");
		// Of calls that began before the ADD, and whose plugin was held up until now.
		writeFileSync(join(notes, "a.json"), JSON.stringify({ at: called, ...id }));
		const others = (await node.state()).endpoints.filter((e) => e.containerId !== pod.name);
		const list = others.map(({ containerId, ifName }) => ({
			containerID: containerId,
			ifname: ifName,
		}));
		const collection = { at: called, network: "fairway", validAttachments: list };
		writeFileSync(join(notes, "b.json"), JSON.stringify(collection));
		await pod.script("ping -qc1 -W2 10.99.1.1");
		t.same((await node.add(pod)).addresses, addresses);
		t.same(readdirSync(notes), [], "they are worked off");
		await pod.script("ping -qc1 -W2 10.99.1.1");

		const now = monotonicMs() - 1;
		await node.add(pod);
		writeFileSync(join(notes, "a.json"), JSON.stringify({ at: now, ...id }));
		await node.add(pod);
		t.ok((await node.state()).endpoints.some(({ containerId }) => containerId === pod.name));
		writeFileSync(join(notes, "a.json"), JSON.stringify({ at: monotonicMs(), ...id }));
		await node.call("DEL", await node.pod("other"));
		t.notOk((await node.state()).endpoints.some(({ containerId }) => containerId === pod.name));
	});

	await t.test("an invalid record", async (t) => {
		await node.kill();
		writeFileSync(join(node.runDir, "endpoints", "fairway00000000.json"), "{");
		writeFileSync(join(node.runDir, "endpoints", "fairway00000001.json.new"), "{");
		await node.start();
		const { endpoints, problems } = await node.state();
		t.equal(endpoints.length, 2);
		t.match(problems, [/endpoints\/fairway00000000\.json is unreadable/]);
	});
});

t.test("the Node changes while Pods run", async (t) => {
	const node = await CniNode.up("change");
	t.teardown(() => node.down());
	const [old, young] = [await node.pod("old"), await node.pod("young")];
	const { body: prevResult } = await node.add(old);

	await t.test("other pod CIDRs", async (t) => {
		const view = { ...defaultView, podCIDRs: ["10.98.0.0/24"], gateways: ["10.98.0.1"] };
		await node.order("view", { view });
		t.same((await node.add(young)).addresses, ["10.98.0.2"]);
		t.equal((await node.call("CHECK", old, { config: { prevResult } })).status, 0);
		await old.script("ping -qc1 -W2 10.98.0.2");
		t.match((await node.state()).problems, [/10\.99\.1\.2.* outside of this Node's pod CIDRs/]);
		await node.order("view", { view: defaultView });
		await node.call("DEL", young);
		t.same((await node.state()).problems, []);
	});

	await t.test("the namespace disappears and returns with the same name", async (t) => {
		await run(["ip", "netns", "del", old.name]);
		await run(["ip", "netns", "add", old.name]);
		await vanished(node);
		t.strictSame((await node.add(old)).body, prevResult);
		t.same((await node.state()).problems, []);
	});

	await t.test("the Pods' MTU grows and shrinks, and no packet is lost", async (t) => {
		await node.add(young);
		const mtu = async (podMTU: number) => {
			await node.order("view", { view: { ...defaultView, podMTU } });
			await node.order("mtu");
		};
		// 1472 bytes exceed the first MTU, so the side with the smaller MTU fragments.
		const pings = ["10.99.1.3", "fd99:1::3"].map((to) =>
			old.run(["ping", "-qA", "-c2000", "-W2", "-s1452", to], { mayFail: true }),
		);
		const down = node.namespace.run(["ping", "-qA", "-c2000", "-W2", "-s1452", "10.99.1.3"], {
			mayFail: true,
		});
		for (const podMTU of [1500, 1400, 1500, 1280, 1450]) await mtu(podMTU);
		for (const { stdout } of await Promise.all([...pings, down]))
			t.match(stdout, / 0% packet loss/);

		const sizes = async (size: number) =>
			(
				await old.run(["ping", "-qc1", "-W2", "-Mdo", `-s${size - 28}`, "10.99.1.3"], {
					mayFail: true,
				})
			).status === 0;
		const devices = async () =>
			[
				await old.run(["ip", "-o", "link", "show", "eth0"]),
				await node.namespace.run(["ip", "-o", "link", "show", "type", "veth"]),
			].flatMap(({ stdout }) => [...stdout.matchAll(/ mtu (\d+)/g)].map(([, size]) => size));
		await mtu(1500);
		t.same([await sizes(1500), await sizes(1501)], [true, false]);
		t.same(await devices(), ["1500", "1500", "1500"]);
		await mtu(1400);
		t.same([await sizes(1400), await sizes(1401)], [true, false]);
		t.same(await devices(), ["1400", "1400", "1400"]);
		const v6 = async (size: number) =>
			(
				await old.run(["ping", "-qc1", "-W2", `-s${size - 48}`, "-Mdo", "fd99:1::3"], {
					mayFail: true,
				})
			).status === 0;
		t.same([await v6(1400), await v6(1401)], [true, false]);
		t.same(
			(await node.state()).endpoints.map((endpoint) => endpoint.mtu),
			[1400, 1400],
		);
		t.equal((await node.call("CHECK", old, { config: { prevResult } })).status, 0);
	});
});

t.test("a Pod that asks for a bandwidth limit is reported", async (t) => {
	const node = await CniNode.up("limits");
	t.teardown(() => node.down());
	const limited = await node.pod("limited");
	const runtimeConfig = (ingressRate: number) => ({ bandwidth: { ingressRate, egressRate: 0 } });
	await node.add(limited, {
		config: { runtimeConfig: runtimeConfig(1_000_000) },
		variables: { CNI_ARGS: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=limited" },
	});
	const other = await node.pod("unlimited");
	await node.add(other, { config: { runtimeConfig: runtimeConfig(0) } });
	const problem =
		/^Bandwidth limits \(kubernetes.io.*\) are not applied to Pod default\/limited\.$/;
	t.match((await node.state()).problems, [problem]);
	await node.kill();
	await node.start();
	t.match((await node.state()).problems, [problem], "also after a restart");
	await node.call("DEL", limited);
	t.same((await node.state()).problems, []);
});

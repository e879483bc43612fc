/** What runSteps changes and reads, against ip(8) and ethtool(8), in namespaces of its own. */
import { execFileSync } from "node:child_process";
import t from "tap";
import { runSteps, runStepsNow } from "#native";
import {
	addAddress,
	addDefaultRoute,
	addVeth,
	change,
	deleteHostRoute,
	deleteLink,
	NetlinkError,
	nameLink,
	setHostRoute,
	setNeighbour,
	setOffload,
	setSysctl,
	setUp,
} from "../../src/linux/netlink.js";
import { oneLink, readLink } from "../../src/linux/netlink_query.js";
import { lookUpLink, lookUpNeighbour, lookUpRoute } from "../../src/linux/route_query.js";

const [here, pod] = ["a", "b"].map((end) => `fwn-${process.pid}-${end}`) as [string, string];
const path = (name: string) => `/run/netns/${name}`;
for (const name of [here, pod]) execFileSync("ip", ["netns", "add", name]);
t.teardown(() => {
	for (const name of [here, pod]) execFileSync("ip", ["netns", "del", name]);
});
const ip = (name: string, ...args: string[]) =>
	JSON.parse(execFileSync("ip", ["-n", name, "-json", ...args], { encoding: "utf8" }) || "[]");
const ends = [
	{ name: "host0", mac: "02:00:00:00:00:01" },
	{ name: "eth0", mac: "02:00:00:00:00:02" },
] as const;

t.test("a Pod's interface, as ip shows it", async (t) => {
	await change(
		[addVeth(...ends, 1450, path(pod)), nameLink("host0", "fairway x/y/z"), setUp("host0")],
		path(here),
	);
	const link = await readLink("host0", path(here));
	t.match(link, { name: "host0", mtu: 1450, mac: ends[0].mac, hasEthernet: true, kind: "veth" });
	t.match(ip(here, "-details", "link", "show", "host0"), [
		{ ifindex: link?.index, mtu: 1450, ifalias: "fairway x/y/z", inet6_addr_gen_mode: "none" },
	]);
	const index = link?.index ?? 0;
	await change(
		["10.9.0.2", "fd09::2"].flatMap((address) => [
			setNeighbour(address, ends[1].mac, index, "host0"),
			setHostRoute(address, 170, index, "host0"),
			setHostRoute(address, 170, index, "host0"),
		]),
		path(here),
	);
	t.match(ip(here, "-4", "route"), [{ dst: "10.9.0.2", protocol: "170", scope: "link" }]);
	t.equal(ip(here, "-6", "route", "show", "proto", "170").length, 1);
	t.equal(ip(here, "neigh", "show", "nud", "permanent").length, 2);

	const inside = (await readLink("eth0", path(pod)))?.index ?? 0;
	await change(
		[
			setSysctl("ipv6/conf/eth0/accept_dad", "0"),
			setSysctl("ipv6/conf/eth0/of_no_kernel", "0", true),
			addAddress("10.9.0.2", inside, "eth0"),
			addAddress("fd09::2", inside, "eth0"),
			setUp("eth0"),
			setNeighbour("10.9.0.1", ends[0].mac, inside, "eth0"),
			addDefaultRoute("10.9.0.1", inside, "eth0"),
			addDefaultRoute("fd09::1", inside, "eth0"),
			setOffload("eth0", "generic-receive-offload", true),
			setOffload("eth0", "tx-sctp-segmentation", false),
		],
		path(pod),
	);
	const addresses = ip(pod, "address", "show", "eth0")[0].addr_info;
	t.match(addresses, [
		{ local: "10.9.0.2", prefixlen: 32 },
		{ local: "fd09::2", prefixlen: 128, nodad: true },
	]);
	t.match(ip(pod, "-4", "route"), [{ dst: "default", gateway: "10.9.0.1", flags: ["onlink"] }]);
	t.match(ip(pod, "-6", "route", "show", "default"), [{ gateway: "fd09::1" }]);
	const features = execFileSync("ip", ["netns", "exec", pod, "ethtool", "-k", "eth0"]).toString();
	t.match(features, /^generic-receive-offload: on$/m);
	t.match(features, /tx-sctp-segmentation: off$/m);
	const [again] = await change([setOffload("eth0", "rx-gro", true)], path(pod));
	t.equal(again?.changed, false);

	await change([deleteHostRoute("10.9.0.2", 170, index)], path(here));
	t.same(ip(here, "-4", "route"), []);
});

t.test("the first refusal ends the steps", async (t) => {
	const refused = async (changes: Parameters<typeof change>[0], netns = path(here)) =>
		change(changes, netns).then(
			() => undefined,
			(error) => error as NetlinkError,
		);
	const twice = await refused([addVeth(...ends, 1450, path(pod)), deleteLink("host0")]);
	t.ok(twice instanceof NetlinkError);
	t.match(twice, { code: "EEXIST", detail: "File exists", what: /^link add host0 / });
	t.ok(await readLink("host0", path(here)), "what came after it was not done");
	t.match(await refused([deleteLink("none0")]), { code: "ENODEV" });
	t.match(await refused([setOffload("host0", "no-such-feature", true)]), { code: "EOPNOTSUPP" });
	t.match(await refused([setOffload("host0", "rx-all", true)]), { code: "EINVAL" }, "fixed");
	t.match(await refused([setSysctl("ipv4/none", "1")]), { code: "ENOENT" });
	t.match(await refused([setUp("host0")], "/run/netns/none"), { code: "ENOENT" });
	t.match(await refused([setUp("host0")], "/proc/self/ns/uts"), { code: "EINVAL" });
	t.equal(await readLink("none0", path(here)), undefined);
	await change([deleteLink("host0")], path(here));
	t.equal(await readLink("eth0", path(pod)), undefined, "both ends are gone");
});

t.test("a look-up on the caller's own thread", async (t) => {
	t.match(lookUpLink(1), { name: "lo", hasEthernet: false });
	t.equal(lookUpLink(2 ** 30), undefined);
	const local = { destination: "127.0.0.1", source: "", tos: 0, protocol: 0 };
	const route = lookUpRoute({ ...local, sourcePort: 0, destinationPort: 0 });
	t.match(route, { type: "other", output: 1, gateway: "" });
	t.equal(lookUpNeighbour("192.0.2.1", 1), undefined);
	t.match(runStepsNow([{ message: oneLink("none0") }]), [{ code: "ENODEV" }]);
});

t.test("wrong arguments", async (t) => {
	// biome-ignore lint/suspicious/noExplicitAny: that is the test
	const run = runSteps as any;
	for (const [steps, netns] of [
		[undefined],
		[{}],
		[[1]],
		[[{}]],
		[[{ message: "text" }]],
		[[{ message: Buffer.alloc(15) }]],
		[[{ message: Buffer.alloc(20), namespace: "/x", namespaceAt: 17 }]],
		[[{ file: "", text: "x" }]],
		[[{ file: "/x", text: "x", optional: 1 }]],
		[[{ device: "x", feature: "y" }]],
		[[], 1],
		[[], ""],
	])
		t.throws(() => run(steps, netns), /^Cannot run steps: /, JSON.stringify(steps));
	// biome-ignore lint/suspicious/noExplicitAny: that is the test
	t.throws(() => (runStepsNow as any)([1]), /^Cannot run steps: /);
	t.same(await runSteps([]), []);
});

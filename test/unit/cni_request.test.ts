/** A call's parts: what parseRequest makes of it, results, names, error codes. */
import { readFileSync } from "node:fs";
import t from "tap";
import type { Endpoint } from "../../src/cni/endpoint.js";
import { hostInterfaceNames, podMac } from "../../src/cni/endpoint.js";
import { ErrorCode, errorObject } from "../../src/cni/errors.js";
import { parseRequest } from "../../src/cni/request.js";
import { addResult } from "../../src/cni/result.js";
import { isPodInterface } from "../../src/linux/names.js";

const good = { cniVersion: "1.0.0", name: "fairway", type: "fairway-cni" };

/* ------------------------------------------------------ what is asked */

t.test("a request is parsed", async (t) => {
	const config = {
		...good,
		cniVersion: "1.1.0",
		"cni.dev/valid-attachments": [{ containerID: "a", ifname: "eth0" }],
	};
	const request = { command: "GC", containerId: "", netns: "", ifName: "", args: "", config };
	t.same(parseRequest(request).config.validAttachments, [{ containerId: "a", ifName: "eth0" }]);
	const empty = { ...config, "cni.dev/valid-attachments": null };
	t.same(parseRequest({ ...request, config: empty }).config.validAttachments, []);
	t.equal(parseRequest(request).config.socket, "/run/fairway/agent.sock");
	const add = {
		...request,
		command: "ADD",
		containerId: "c",
		netns: "/n",
		ifName: "eth0",
		args: "K8S_POD_NAME=web;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_UID=;",
	};
	const uid = { args: "K8S_POD_UID=0a1b;K8S_POD_NAME=web" };
	t.match(parseRequest({ ...add, ...uid }), { attachment: { name: "web", uid: "0a1b" } });
	t.same(parseRequest(add), {
		command: "ADD",
		config: {
			cniVersion: "1.1.0",
			name: "fairway",
			socket: "/run/fairway/agent.sock",
			validAttachments: [{ containerId: "a", ifName: "eth0" }],
		},
		attachment: {
			network: "fairway",
			containerId: "c",
			ifName: "eth0",
			netns: "/n",
			namespace: "default",
			name: "web",
		},
	});
});

/* ------------------------------------------------------ what is answered */

const endpoint: Endpoint = {
	network: "fairway",
	containerId: "abc123",
	ifName: "eth0",
	netns: "/run/netns/pod",
	addresses: ["10.244.1.2", "fd00::2"],
	gateways: ["10.244.1.1", "fd00::1"],
	mac: "02:00:00:00:00:02",
	hostInterface: "fairway00000001",
	mtu: 1450,
	attachedAt: "2026-01-01T00:00:00.000Z",
};

t.test("the result in the format of each version", async (t) => {
	const hostMac = "02:00:00:00:00:01";
	const dns = { nameservers: ["10.96.0.10"] };
	const routes = [
		{ dst: "0.0.0.0/0", gw: "10.244.1.1" },
		{ dst: "::/0", gw: "fd00::1" },
	];
	t.strictSame(addResult(endpoint, hostMac, { cniVersion: "1.1.0" }), {
		cniVersion: "1.1.0",
		interfaces: [
			{ name: "fairway00000001", mac: hostMac, mtu: 1450 },
			{ name: "eth0", mac: "02:00:00:00:00:02", mtu: 1450, sandbox: "/run/netns/pod" },
		],
		ips: [
			{ interface: 1, address: "10.244.1.2/32", gateway: "10.244.1.1" },
			{ interface: 1, address: "fd00::2/128", gateway: "fd00::1" },
		],
		routes,
		dns: {},
	});
	const interfaces = [
		{ name: "fairway00000001", mac: hostMac },
		{ name: "eth0", mac: "02:00:00:00:00:02", sandbox: "/run/netns/pod" },
	];
	t.strictSame(addResult(endpoint, hostMac, { cniVersion: "1.0.0", dns }).interfaces, interfaces);
	t.strictSame(addResult(endpoint, hostMac, { cniVersion: "1.0.0", dns }).dns, dns);
	for (const cniVersion of ["0.3.1", "0.4.0"] as const) {
		t.strictSame(addResult(endpoint, hostMac, { cniVersion }).ips, [
			{ version: "4", interface: 1, address: "10.244.1.2/32", gateway: "10.244.1.1" },
			{ version: "6", interface: 1, address: "fd00::2/128", gateway: "fd00::1" },
		]);
	}
	const prevResult = {
		interfaces: [{ name: "lo", sandbox: "/run/netns/pod" }],
		ips: [{ address: "127.0.0.1/8", interface: 0 }],
		routes: [{ dst: "127.0.0.0/8" }],
		dns,
	};
	const chained = addResult(endpoint, hostMac, { cniVersion: "1.0.0", prevResult });
	t.strictSame(chained.interfaces, [...prevResult.interfaces, ...interfaces]);
	t.match(chained.ips, [prevResult.ips[0], { interface: 2 }, { interface: 2 }]);
	t.strictSame(chained.routes, [...prevResult.routes, ...routes]);
	t.strictSame(chained.dns, dns);
});

t.test("names and MACs depend only on the key", async (t) => {
	const names = hostInterfaceNames("abc123", "eth0");
	t.equal(names.length, 8);
	t.ok(names.every(isPodInterface));
	t.ok(names.every((name) => name.length <= 15));
	t.same(names, hostInterfaceNames("abc123", "eth0"));
	t.notOk(names.includes(hostInterfaceNames("abc123", "eth1")[0]!));
	t.match(podMac(endpoint), /^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
});

t.test("the documented error codes are complete", async (t) => {
	const readme = readFileSync(new URL("../../src/cni/README.md", import.meta.url), "utf8");
	const section = readme.slice(readme.indexOf("## Error codes"));
	const documented = [...section.matchAll(/^\| (\d+) +\|/gm)].map((match) => Number(match[1]));
	t.same(documented, Object.values(ErrorCode));
	t.same(errorObject(new Error("boom"), "1.0.0"), { cniVersion: "1.0.0", code: 5, msg: "boom" });
});

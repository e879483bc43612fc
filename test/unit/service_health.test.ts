/** What load balancers ask for: /healthz, /livez and healthCheckNodePort, with real requests. */
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import t, { type Test } from "tap";
import { ProxyHealth } from "../../src/http/proxy_health.js";
import { type CheckedService, ServiceHealth } from "../../src/http/service_health.js";

async function freePort(): Promise<number> {
	const server = createTcpServer().listen(0, "::");
	await once(server, "listening");
	const { port } = server.address() as AddressInfo;
	server.close();
	return port;
}

const web = (healthCheckNodePort: number, localReady: number, name = "web"): CheckedService => ({
	...{ namespace: "default", name, healthCheckNodePort, localReady },
});

function servers(t: Test, isHealthy = () => true): ServiceHealth {
	const health = new ServiceHealth({ isHealthy, retryMs: 1 });
	t.teardown(() => health.close());
	return health;
}

t.test("/healthz and /livez say what kube-proxy says", async (t) => {
	let [nowMs, isNodeEligible] = [0, true];
	const health = new ProxyHealth({
		isNodeEligible: () => isNodeEligible,
		families: () => [4, 6],
		now: () => nowMs,
		date: () => new Date(Date.UTC(2030, 0, 1) + nowMs),
	});
	const server = createServer(health.handle).listen(0, "127.0.0.1");
	await once(server, "listening");
	t.teardown(() => {
		server.close();
		server.closeAllConnections();
	});
	const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
	const codes = async () => {
		const [healthz, livez] = await Promise.all([fetch(`${url}/healthz`), fetch(`${url}/livez`)]);
		return [healthz?.status, livez?.status];
	};
	health.queued();
	t.same(await codes(), [503, 503], "nothing is in force yet");
	const first = (await (await fetch(`${url}/livez`)).json()) as Record<string, unknown>;
	t.equal(first.lastUpdated, "0001-01-01T00:00:00Z");
	health.updated();
	t.same(await codes(), [200, 200]);
	nowMs = 500_000;
	const response = await fetch(`${url}/healthz?verbose`);
	t.equal(response.headers.get("content-type"), "application/json");
	t.equal(response.headers.get("x-content-type-options"), "nosniff");
	const [at, began] = ["2030-01-01T00:08:20.000Z", "2030-01-01T00:00:00.000Z"];
	const each = { lastUpdated: began, healthy: true };
	t.equal(
		await response.text(),
		JSON.stringify({
			...{ lastUpdated: at, currentTime: at, nodeEligible: true, healthy: true },
			status: { IPv4: each, IPv6: each },
		}),
	);
	t.notHas(await (await fetch(`${url}/livez`)).json(), { nodeEligible: true });
	health.queued();
	nowMs += 59_999;
	t.same(await codes(), [200, 200], "a change is late only after a minute");
	health.queued();
	nowMs += 1;
	t.same(await codes(), [503, 503], "later changes do not make the first one younger");
	const late = (await (await fetch(`${url}/livez`)).json()) as Record<string, unknown>;
	t.match(late, { healthy: false, lastUpdated: began, status: { IPv6: { healthy: false } } });
	health.updated();
	isNodeEligible = false;
	t.same(await codes(), [503, 200], "a Node that goes away gets no new connections");
	t.match(await (await fetch(`${url}/healthz`)).json(), { nodeEligible: false, healthy: true });
	t.equal((await fetch(`${url}/metrics`)).status, 404);
});

t.test("healthCheckNodePort answers with the local ready endpoints", async (t) => {
	let isHealthy = true;
	const health = servers(t, () => isHealthy);
	const port = await freePort();
	await health.update([web(port, 2), web(0, 1, "none")], undefined);
	const get = async (host: string) => fetch(`http://${host}:${port}/any/path`);
	for (const host of ["127.0.0.1", "[::1]"]) t.equal((await get(host)).status, 200, host);
	const response = await get("127.0.0.1");
	t.equal(response.headers.get("content-type"), "application/json");
	t.equal(response.headers.get("x-content-type-options"), "nosniff");
	t.equal(response.headers.get("x-load-balancing-endpoint-weight"), "2");
	t.equal(
		await response.text(),
		[
			...["{", '\t"service": {', '\t\t"namespace": "default",', '\t\t"name": "web"', "\t},"],
			...['\t"localEndpoints": 2,', '\t"serviceProxyHealthy": true', "}"],
		].join("\n"),
	);
	await health.update([web(port, 0)], undefined);
	const empty = await get("127.0.0.1");
	t.equal(empty.status, 503);
	t.equal(empty.headers.get("x-load-balancing-endpoint-weight"), "0");
	t.match(await empty.json(), { localEndpoints: 0, serviceProxyHealthy: true });
	await health.update([web(port, 3)], undefined);
	isHealthy = false;
	const unhealthy = await get("127.0.0.1");
	t.equal(unhealthy.status, 503);
	t.match(await unhealthy.json(), { localEndpoints: 3, serviceProxyHealthy: false });
	isHealthy = true;
	await health.update([web(0, 3)], undefined);
	await t.rejects(get("127.0.0.1"), "the policy has turned to Cluster");
	await health.update([web(port, 1)], undefined);
	t.equal((await get("127.0.0.1")).status, 200, "the same port is asked for again");
});

t.test("health check ports change hands, and move with the addresses", async (t) => {
	const health = servers(t);
	const [one, other] = [await freePort(), await freePort()];
	const nameAt = async (port: number, host = "127.0.0.1") => {
		const { service } = (await (await fetch(`http://${host}:${port}`)).json()) as {
			service: { name: string };
		};
		return service.name;
	};
	await health.update([web(one, 1, "a"), web(other, 1, "b")], undefined);
	await health.update([web(other, 1, "a"), web(one, 1, "b")], undefined);
	t.same([await nameAt(one), await nameAt(other)], ["b", "a"]);
	await health.update([web(other, 1, "c")], ["127.0.0.1", "::1"]);
	t.same([await nameAt(other), await nameAt(other, "[::1]")], ["c", "c"]);
	await t.rejects(nameAt(one));
	t.same(health.problems(), []);
	await health.update([web(other, 1, "c")], ["::1"]);
	await t.rejects(nameAt(other), "no longer at this address");
	t.equal(await nameAt(other, "[::1]"), "c");
	await health.update([web(other, 1, "c")], []);
	await t.rejects(nameAt(other, "[::1]"), "the Node has none of the addresses");
});

t.test(
	"a health check port that is taken is a problem, and is served once it is free",
	async (t) => {
		const health = servers(t);
		const blocker = createTcpServer().listen(0, "127.0.0.1");
		await once(blocker, "listening");
		const { port } = blocker.address() as AddressInfo;
		await health.update([web(port, 1)], ["127.0.0.1"]);
		t.same(health.problems(), [
			`Cannot listen at 127.0.0.1:${port} (healthCheckNodePort of Service default/web): another process listens there`,
		]);
		blocker.close();
		for (let tries = 0; health.problems().length > 0 && tries < 500; tries++) await delay(2);
		t.equal((await fetch(`http://127.0.0.1:${port}`)).status, 200);

		await health.update([web(port, 1), web(port, 1, "also")], ["127.0.0.1"]);
		t.same(
			health.problems(),
			[
				`Cannot serve healthCheckNodePort ${port} of Service default/also: expected a port of its own, got that of Service default/web`,
			],
			"who has it keeps it",
		);
		await health.update([web(port, 1, "also")], ["127.0.0.1"]);
		t.same(health.problems(), []);
		t.match(await (await fetch(`http://127.0.0.1:${port}`)).json(), { service: { name: "also" } });
	},
);

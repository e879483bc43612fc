/**
 * Services whose endpoints change, and whose agent goes, under traffic:
 *
 *   pod1a ─┐                    ┌ pod1b   on this Node
 *          ├─ node1: Service 1 ─┼ pod2a   direct
 *   node1 ─┘                    └ pod3a   in a tunnel
 */
import t from "tap";
import { until } from "../../src/lab/until.js";
import { startCluster, UDP_PORT } from "../tools/cluster.js";
import {
	clusterIp,
	FAMILIES,
	SERVICE_SETTINGS,
	type ServiceEndpoint,
	serviceManifest,
} from "../tools/service_manifest.js";

const PODS = ["pod1b", "pod2a", "pod3a"];

/** Of a sender of 500 a second whose endpoint goes, a fifth of a second. */
const LOST_MAX = 100;

t.test("Services under change", async (t) => {
	const cluster = await startCluster(t, SERVICE_SETTINGS);
	const { lab } = cluster;
	await cluster.serve(...PODS);
	const pod = await lab.station("pod1a");
	let written = 0;
	/** Resolves when Node 1 has these endpoints in use. */
	const write = async (...endpoints: ServiceEndpoint[]) => {
		// A second Service shows by its port that the file is in force.
		const marker = 1000 + ++written;
		const ports = [{ name: "tcp", protocol: "TCP", port: marker }];
		const spec = { type: "ClusterIP", ports };
		cluster.write(
			"services.yaml",
			...serviceManifest(cluster, 1, endpoints),
			...serviceManifest(cluster, 2, [{ machine: "pod1b" }], spec),
		);
		await until("the change is in force", () =>
			pod.order("tcpSend", {
				...{ host: clusterIp(4, 2), port: marker, bytes: 10, seed: 1, timeoutMs: 1000 },
			}),
		);
	};
	const all = PODS.map((machine) => ({ machine }));
	const received = async (machine: string, stream: number): Promise<number> =>
		(await (await lab.station(machine)).order("udpReport", { port: UDP_PORT, stream })).received;
	/** Which of these receives the stream. */
	const receiver = async (stream: number, machines: readonly string[]): Promise<string> =>
		until(`a receiver among ${machines}`, async () => {
			const before = await Promise.all(machines.map((machine) => received(machine, stream)));
			await until("more of the stream", async () => {
				const now = await Promise.all(machines.map((machine) => received(machine, stream)));
				return now.some((count, i) => count > (before[i] ?? 0) + 5);
			});
			for (const [i, machine] of machines.entries())
				if ((await received(machine, stream)) > (before[i] ?? 0)) return machine;
			return undefined;
		});

	await write(...all);

	t.test("an agent that is killed and starts again cuts no flow and moves none", async (t) => {
		const agent = lab.agent("node1");
		for (const family of FAMILIES) {
			const host = clusterIp(family, 1);
			const bulk = await pod.order("bulkStart", { host, port: 81, rate: 500_000 });
			const { stream } = await pod.order("udpStream", { host, port: 53, rate: 500 });
			const chosen = await receiver(stream, PODS);
			const progresses = async (when: string) => {
				const before = (await pod.order("bulkReport", bulk)).received;
				await until(
					`IPv${family}, ${when}: TCP goes on`,
					async () => (await pod.order("bulkReport", bulk)).received > before + 100_000,
				);
			};
			await agent.stop("SIGKILL");
			await progresses("without an agent");
			const late = await pod.order("tcpSend", { host, port: 80, bytes: 1e5, seed: 2 });
			t.equal(late.whole, true, `IPv${family}, a connection that begins without an agent`);
			await agent.start();
			await progresses("with the next agent");
			t.equal(await receiver(stream, PODS), chosen, `IPv${family}, UDP stays where it was`);
			const { sent, returned } = await pod.order("udpStop", { stream });
			t.equal(returned, sent, `IPv${family}, no datagram is lost`);
			for (const machine of PODS)
				if (machine !== chosen) t.equal(await received(machine, stream), 0, `not at ${machine}`);
			await pod.order("bulkStop", bulk);
		}
	});

	t.test("a UDP sender on one port moves when its endpoint is gone, TCP stays", async (t) => {
		for (const family of FAMILIES)
			for (const from of ["pod1a", "node1"]) {
				const client = await lab.station(from);
				const host = clusterIp(family, 1);
				await write(...all);
				const localPort = 40_000 + written;
				const { stream } = await client.order("udpStream", {
					...{ host, port: 53, rate: 500, localPort },
				});
				const bulk = await client.order("bulkStart", { host, port: 81, rate: 200_000 });
				const old = await receiver(stream, PODS);
				const rest = PODS.filter((machine) => machine !== old);
				await write(...rest.map((machine) => ({ machine })));
				const what = `IPv${family}, ${from}, ${old} is gone`;
				const stopped = await received(old, stream);
				const next = await receiver(stream, rest);
				t.not(next, old, `${what}: ${next} has it`);
				t.equal(await received(old, stream), stopped, `${what}: nothing more comes there`);
				const before = (await client.order("bulkReport", bulk)).received;
				await until(
					`${what}: TCP goes on`,
					async () => (await client.order("bulkReport", bulk)).received > before + 50_000,
				);
				const { sent, returned } = await client.order("udpStop", { stream });
				t.ok(sent - returned <= LOST_MAX, `${what}: ${sent - returned} datagrams lost`);
				await client.order("bulkStop", bulk);
			}
	});

	t.test("a sender that began without endpoints is served when there are some", async (t) => {
		for (const family of FAMILIES) {
			await write();
			const host = clusterIp(family, 1);
			const { stream } = await pod.order("udpStream", { host, port: 53, rate: 200 });
			await t.rejects(
				pod.order("tcpSend", { host, port: 80, bytes: 10, seed: 1 }),
				/ECONNREFUSED/,
				`IPv${family}: refused`,
			);
			await write(...all);
			t.ok(await receiver(stream, PODS), `IPv${family}: served`);
			await pod.order("udpStop", { stream });
		}
	});

	t.test("a rolling replacement fails no connection", async (t) => {
		let running = true;
		const counts = { done: 0, failed: [] as string[] };
		const client = async (from: string, host: string) => {
			const station = await lab.station(from);
			while (running)
				try {
					const { whole } = await station.order("tcpSend", {
						...{ host, port: 80, bytes: 20_000, seed: 3 },
					});
					if (!whole) counts.failed.push(`${from} ${host}: changed`);
					counts.done++;
				} catch (error) {
					counts.failed.push(`${from} ${host}: ${(error as Error).message}`);
				}
		};
		const clients = FAMILIES.flatMap((family) =>
			["pod1a", "node1", "pod2b"].map((from) => client(from, clusterIp(family, 1))),
		);
		const leaving = { ready: false, serving: true, terminating: true };
		for (let round = 0; round < 2; round++)
			for (const machine of PODS) {
				const rest = all.filter((endpoint) => endpoint.machine !== machine);
				await write(...rest, { machine, conditions: leaving });
				await write(...rest);
				await write(...all);
			}
		// All endpoints terminate: they serve on.
		await write(...PODS.map((machine) => ({ machine, conditions: leaving })));
		running = false;
		await Promise.all(clients);
		t.ok(counts.done > 100, `${counts.done} connections`);
		t.same(counts.failed, []);
	});

	t.test("nothing is left in the kernel when Services are turned off", async (t) => {
		const routes = async (): Promise<string> =>
			(
				await Promise.all(
					FAMILIES.map(
						async (family) =>
							(
								await lab.run("node1", ["ip", `-${family}`, "route", "show", "dev", "fairway0"])
							).stdout,
					),
				)
			).join("");
		const ofServices =
			/10\.96\.0\.0|fd00:96::|169\.254\.250\.28|fd66:6169:7277::28|192\.0\.2\.|fd00:b:/;
		t.match(await routes(), ofServices);
		await cluster.configure({
			...SERVICE_SETTINGS,
			trafficEncapMode: "encap",
			fairwayProxy: { enable: false },
		});
		await until("no route of a Service", async () => !ofServices.test(await routes()));
		await cluster.configure(SERVICE_SETTINGS);
		await write(...all);
		t.match(await routes(), ofServices, "and back");
	});
});

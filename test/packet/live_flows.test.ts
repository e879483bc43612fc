/** Live flows as network policy judges them: the source before SNAT, the destination behind a Service. */
import t from "tap";
import { readFlowUsage } from "../../src/reconcile/maps/flow_usage.js";
import { type LiveFlow, liveFlows } from "../../src/reconcile/maps/live_flows.js";
import * as build from "./builder.js";
import { check } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { packetOf, Scene, TCP, UDP } from "./service_scene.js";
import { SERVICE_PORT, TARGET_PORT } from "./services.js";
import { fromPod } from "./table.js";
import * as world from "./world.js";

const { podA, podB, outside } = world;

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of [4, 6] as const)
		t.test(
			`IPv${family}: translated flows are listed as they are judged, expired ones not`,
			async (t) => {
				const scene = await Scene.begin(dataPath, family);
				const send = (packet: Buffer) => check(dataPath, scene.tables, fromPod(podA, packet));
				const all = async (now = process.hrtime.bigint()) => {
					const found: LiveFlow[] = [];
					for await (const some of liveFlows(dataPath.map("flows"), scene.tables.config, now))
						found.push(...some);
					return found;
				};
				t.same(await all(), [], "an empty table");
				const source = podA[family];
				await send(
					packetOf(
						[
							[source, 40000],
							[outside[family], 443],
						],
						TCP,
						{ flags: build.SYN },
					),
				);
				await send(
					packetOf(
						[
							[source, 40001],
							[podB[family], 53],
						],
						UDP,
					),
				);
				await send(build.ip({ source, destination: outside[family] }, build.echo("request", 7)));
				const service = scene.service("external", UDP);
				await send(
					packetOf(
						[
							[source, 40002],
							[service.clusterIP, SERVICE_PORT],
						],
						UDP,
					),
				);
				const found = await all();
				const flow = { source, destination: outside[family] };
				t.match(found.filter(({ destination }) => destination === outside[family]).sort(byPort), [
					{ ...flow, protocol: family === 4 ? 1 : 58, port: 0 },
					{ ...flow, protocol: TCP, port: 443 },
				]);
				t.match(
					found.filter(({ port }) => port === 53),
					[{ source, destination: podB[family], protocol: UDP }],
				);
				const backends = service.backends.map(({ address }) => address);
				const [served] = found.filter(({ port }) => port === TARGET_PORT);
				t.match(served, { source, protocol: UDP });
				t.ok(backends.includes(served?.destination ?? ""), "the endpoint, not the Service");
				t.equal(found.length, 4);
				const usage = (name: (id: number) => string | undefined, later = 0n) => {
					const now = process.hrtime.bigint() + later;
					return readFlowUsage(dataPath.map("flows"), scene.tables.config, now, name);
				};
				const ids = service.backends.map(({ id }) => id);
				const { services } = await usage((id) =>
					ids.includes(id) ? "default/external" : "another",
				);
				t.strictSame(services, new Map([["default/external", 1]]), "the Service has one");
				t.equal((await usage(() => undefined)).services.size, 0, "what nobody asks for");
				t.equal(
					(await usage(() => "any", 10n ** 15n)).services.size,
					0,
					"all have expired by then",
				);
				t.same(await all(process.hrtime.bigint() + 10n ** 15n), [], "all have expired by then");
			},
		);

	for (const family of [4, 6] as const)
		t.test(`IPv${family}: SNAT ports in use, by address and protocol`, async (t) => {
			const scene = await Scene.begin(dataPath, family);
			const { config } = scene.tables;
			const use = async (later = 0n) => {
				const now = process.hrtime.bigint() + later;
				const { snat } = await readFlowUsage(dataPath.map("flows"), config, now, () => undefined);
				return snat.sort((a, b) => (a.protocol < b.protocol ? -1 : 1));
			};
			t.same(await use(), [], "no flow, no port");
			const [source, server] = [podA[family], outside[family]];
			const send = (packet: Buffer) => check(dataPath, scene.tables, fromPod(podA, packet));
			const connect = (
				port: number,
				to: string,
				at: number,
				protocol: typeof TCP | typeof UDP = TCP,
			) =>
				send(
					packetOf(
						[
							[source, port],
							[to, at],
						],
						protocol,
						{ flags: build.SYN },
					),
				);
			// Ports within the range are kept.
			await connect(50001, server, 443);
			await connect(50001, server, 80);
			await connect(50002, server, 443);
			await connect(50003, server, 443);
			await connect(50001, server, 53, UDP);
			await send(build.ip({ source, destination: server }, build.echo("request", 7)));
			await connect(50009, podB[family], 443);
			const address = family === 4 ? config.snatAddress4 : config.snatAddress6;
			t.strictSame(await use(), [
				{ address, protocol: "icmp", ports: 1, busiest: 1 },
				{ address, protocol: "tcp", ports: 3, busiest: 3 },
				{ address, protocol: "udp", ports: 1, busiest: 1 },
			]);
			t.same(await use(10n ** 15n), [], "expired flows hold no port");
		});
}

function byPort(a: LiveFlow, b: LiveFlow): number {
	return a.port - b.port;
}

/** Live flows as network policy judges them: the source before SNAT, the destination behind a Service. */
import t from "tap";
import {
	countServiceFlows,
	type LiveFlow,
	liveFlows,
} from "../../src/reconcile/maps/live_flows.js";
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
				const count = (name: (id: number) => string | undefined) =>
					countServiceFlows(
						dataPath.map("flows"),
						scene.tables.config,
						process.hrtime.bigint(),
						name,
					);
				const ids = service.backends.map(({ id }) => id);
				t.strictSame(
					await count((id) => (ids.includes(id) ? "default/external" : "another")),
					new Map([["default/external", 1]]),
					"the Service has one",
				);
				t.equal((await count(() => undefined)).size, 0, "what nobody asks for");
				t.same(await all(process.hrtime.bigint() + 10n ** 15n), [], "all have expired by then");
			},
		);
}

function byPort(a: LiveFlow, b: LiveFlow): number {
	return a.port - b.port;
}

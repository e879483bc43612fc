/**
 * In a guest whose kernel has a Geneve device: node1 is Fairway, node2 that device.
 *
 *   pod1          pod2
 *   node1        node2: geneve4, geneve6
 *     └ net1 ─ router ─ net2
 *
 * Prints a line "geneve: JSON".
 */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { echo } from "../../../src/lab/echo.js";
import { Lab } from "../../../src/lab/lab.js";
import { until } from "../../../src/lab/until.js";
import { attachByHand } from "../../tools/foreign_node.js";

export interface Exchange {
	from: string;
	to: string;
	family: number;
	answered: number;
	/** Of TCP: the content came whole. */
	whole: boolean | string;
	/** Sizes of UDP datagrams that did not come back. */
	missing: number[];
	corrupt: number[];
}

const VNI = 5;
const PINGS = 5;

function node(number: number, annotations: Record<string, string>): object {
	return {
		apiVersion: "v1",
		kind: "Node",
		metadata: { name: `node${number}`, annotations },
		spec: { podCIDRs: [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`] },
		status: {
			addresses: [
				{ type: "InternalIP", address: `192.168.${number}.1` },
				{ type: "InternalIP", address: `fd00:192:168:${number}::1` },
			],
		},
	};
}

function pod(number: number): object {
	const metadata = { name: `pod${number}`, namespace: "default" };
	return { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: `node${number}` } };
}

async function makeGeneve(lab: Lab): Promise<void> {
	const script: string[] = [];
	for (const family of [4, 6] as const) {
		const device = `geneve${family}`;
		const via = family === 4 ? "169.254.44.1" : "fe80::44:1";
		const cidr = family === 4 ? "10.244.1.0/24" : "fd00:10:244:1::/64";
		script.push(
			`ip link add name ${device} type geneve id ${VNI} dstport 6081 \
				remote ${lab.address("node1", family)} ${family === 6 ? "udp6zerocsumrx udp6zerocsumtx" : "noudpcsum"}`,
			// The MAC is what Fairway sends to.
			`ip link set dev ${device} address 02:fa:1c:00:00:01 mtu 1430 addrgenmode none`,
			`ip link set dev ${device} up`,
			`ip -${family} neigh replace ${via} lladdr 02:00:00:00:44:01 dev ${device} nud permanent`,
			`ip -${family} route add ${cidr} via ${via} dev ${device} onlink`,
		);
	}
	await lab.namespace("node2").script(script.join("\n"));
}

async function exchange(lab: Lab, from: string, to: string, family: 4 | 6): Promise<Exchange> {
	const host = lab.address(to, family);
	const [client, server] = [await lab.station(from), await lab.station(to)];
	await server.order("tcpServe", { port: 5000 });
	await server.order("udpServe", { port: 5001 });
	const { lost } = await echo(lab, from, host, PINGS, "-W", "60", "-i", "60");
	const tcp = { host, port: 5000, bytes: 300_000, seed: 1, timeoutMs: 60_000 };
	const sent = await client.order("tcpSend", tcp).catch(({ message }: Error) => message);
	const sizes = [1, 100, 1300, 1402, 1473, 9000];
	const udp = { host, port: 5001, sizes, seed: 2, timeoutMs: 20_000 };
	const { missing, corrupt } = await client.order("udpExchange", udp);
	await server.order("close", { port: 5000 });
	await server.order("close", { port: 5001 });
	const whole = typeof sent === "string" ? sent : sent.whole;
	return { from, to, family, answered: PINGS - lost, whole, missing, corrupt };
}

const directory = mkdtempSync(join(tmpdir(), "fairway-geneve-"));
const manifests = [node(1, {}), node(2, { "fairway.dev/lab-agent": "none" }), pod(1), pod(2)];
writeFileSync(
	join(directory, "cluster.yaml"),
	manifests.map((object) => JSON.stringify(object)).join("\n---\n"),
);
writeFileSync(
	join(directory, "config.yaml"),
	JSON.stringify({
		...{ trafficEncapMode: "encap", tunnelType: "geneve", tunnelVNI: VNI },
		// Emulation is slow: a late answer is no path that fails.
		probes: { failoverTime: 30_000 },
	}),
);
const PATIENCE_MS = 400_000;
const lab = await Lab.up({ name: "geneve", manifests: directory, patienceMs: PATIENCE_MS });
try {
	await attachByHand(lab, "node2");
	await makeGeneve(lab);
	await until(
		"node1 knows node2",
		async () => (await lab.agent("node1").peers()).length === 2,
		PATIENCE_MS,
	);
	const exchanges: Exchange[] = [];
	for (const family of [4, 6] as const)
		for (const [from, to] of [
			["pod1", "pod2"],
			["pod2", "pod1"],
		] as const)
			exchanges.push(await exchange(lab, from, to, family));
	const { xdp, drops, kernel } = await lab.agent("node1").status();
	process.stdout.write(`geneve: ${JSON.stringify({ kernel, xdp, drops, exchanges })}\n`);
} finally {
	await lab.down();
}

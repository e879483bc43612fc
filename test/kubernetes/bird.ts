/**
 * BIRD in the router's namespace: a BGP router that takes the pod CIDRs that Nodes announce, gives them to its
 * kernel and to the other Nodes.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { Daemon } from "./daemon.js";
import { folders, nodePlans, router } from "./layout.js";

/** AS number of the router; each Node has its own, so that none drops the others' routes as a loop. */
export const routerASN = 64600;
export const asnOf = (node: string): number =>
	64601 + nodePlans.findIndex(({ name }) => name === node);

const socket = join(folders.run, "bird.ctl");

const config = (): string => `
router id 192.168.71.1;
protocol device {}
protocol kernel { ipv4 { import none; export all; }; }
protocol kernel { ipv6 { import none; export all; }; }
${nodePlans
	.flatMap(({ name, subnet, v4, v6 }) => [
		session(name, "ipv4", `192.168.${subnet}.1`, v4),
		session(name, "ipv6", `fd00:${subnet}::1`, v6),
	])
	.join("\n")}
`;

/** kube-router announces each family to neighbours of that family alone. */
const session = (node: string, channel: "ipv4" | "ipv6", local: string, neighbor: string) => `
protocol bgp ${node}_${channel} {
	local ${local} as ${routerASN};
	neighbor ${neighbor} as ${asnOf(node)};
	connect retry time 1;
	error wait time 1, 2;
	${channel} { import all; export all; next hop self; };
}`;

export class Bird {
	readonly #daemon: Daemon;

	private constructor(daemon: Daemon) {
		this.#daemon = daemon;
	}

	static async start(): Promise<Bird> {
		const file = join(folders.run, "bird.conf");
		writeFileSync(file, config());
		const command = ["nsenter", `--net=${router.path}`, "bird", "-f", "-c", file, "-s", socket];
		const bird = new Bird(new Daemon("bird", command));
		await until("BIRD answers", async () => (await bird.control("show", "status")).includes("up"));
		return bird;
	}

	async control(...args: string[]): Promise<string> {
		return (await run(["birdc", "-s", socket, ...args], { mayFail: true })).stdout;
	}

	/** Takes the sessions with a Node away, or gives them back. */
	async sessions(verb: "disable" | "enable", node: string): Promise<void> {
		for (const channel of ["ipv4", "ipv6"]) await this.control(verb, `${node}_${channel}`);
	}

	/** Waits until the sessions with each Node are established, one of each family. */
	async established(): Promise<void> {
		await until(
			"all BGP sessions are established",
			async () => {
				const shown = await this.control("show", "protocols");
				if (shown.match(/Established/g)?.length === nodePlans.length * 2) return true;
				throw new Error(shown);
			},
			120_000,
		);
	}

	async end(): Promise<void> {
		await this.#daemon.end("SIGTERM");
	}
}

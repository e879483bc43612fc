/**
 * Antrea's rule: where Pods' packets go untunnelled, Services are Fairway's. Egress policy would
 * otherwise judge the addresses of Services, not those of the Pods behind them. An environment variable
 * makes the refusal a warning.
 */
import type { Config } from "./config.js";

/** Ours, and the one that users of Antrea have set. */
export const OVERRIDES = [
	"ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY",
	"ALLOW_NO_ENCAP_WITHOUT_ANTREA_PROXY",
] as const;

/** As in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

type Judged = Pick<Config, "trafficEncapMode" | "fairwayProxy">;

const TRUE = ["1", "t", "T", "TRUE", "true", "True"];

/** Why these cannot be used together; undefined: they can, or the environment says that they may. */
export function proxyRefusal(config: Judged, environment: Environment): string | undefined {
	if (!concerns(config) || isAllowed(environment)) return undefined;
	return `Cannot use fairwayProxy.enable: expected true with trafficEncapMode ${config.trafficEncapMode}, because egress policy would judge the addresses of Services and not those of the Pods behind them, got false (the environment variable ${OVERRIDES[0]}=true makes this a warning)`;
}

/** Warnings about a configuration in force and the environment. */
export function proxyWarnings(config: Judged, environment: Environment): string[] {
	const warnings = OVERRIDES.flatMap((name) => {
		const value = environment[name] ?? "";
		if (value === "" || TRUE.includes(value)) return [];
		const others = TRUE.slice(0, -1).join(", ");
		return [
			`Cannot use the environment variable ${name}: expected ${others} or ${TRUE.at(-1)}, got ${JSON.stringify(value)}; it counts as false`,
		];
	});
	if (concerns(config) && isAllowed(environment))
		warnings.push(`fairwayProxy.enable is false in trafficEncapMode ${config.trafficEncapMode}`);
	return warnings;
}

/** What cannot work under this configuration, in sentences. */
export function limitations({ fairwayProxy }: Pick<Config, "fairwayProxy">): string[] {
	const { enable, proxyAll, proxyLoadBalancerIPs, skipServices } = fairwayProxy;
	const egress = (what: string, why: string) =>
		`Egress NetworkPolicy judges the addresses of ${what} and not those of the Pods behind them, because ${why}.`;
	const ingress = (key: string) =>
		`Ingress NetworkPolicy sees a Node as the client wherever kube-proxy masquerades packets to NodePorts and load balancer IPs, because ${key} is false.`;
	if (!enable)
		return [egress("Services", "fairwayProxy.enable is false"), ingress("fairwayProxy.enable")];
	return [
		...(proxyAll
			? []
			: [
					egress("NodePorts and external IPs", "fairwayProxy.proxyAll is false"),
					ingress("fairwayProxy.proxyAll"),
				]),
		...(proxyLoadBalancerIPs
			? []
			: [egress("load balancer IPs", "fairwayProxy.proxyLoadBalancerIPs is false")]),
		...(skipServices.length === 0
			? []
			: [egress("some Services", "fairwayProxy.skipServices leaves them to the Node's own stack")]),
	];
}

function concerns({ trafficEncapMode, fairwayProxy }: Judged): boolean {
	return trafficEncapMode !== "encap" && !fairwayProxy.enable;
}

function isAllowed(environment: Environment): boolean {
	return OVERRIDES.some((name) => TRUE.includes(environment[name] ?? ""));
}

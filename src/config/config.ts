/**
 * The agent's configuration: a plain value, complete (with all defaults) and canonical (prefixes as canonical
 * text, names spelled as below).
 */

import type { PortRange, XdpSetting } from "../tables/tables.js";

export type { PortRange, XdpMode, XdpSetting } from "../tables/tables.js";
export type TrafficEncapMode = "encap" | "noEncap" | "hybrid";
export type TunnelType = "geneve" | "vxlan";
export type HybridDirect = "proven" | "subnet";
export type LogLevel = "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent";

/** Seconds without a packet after which a flow expires, for each state; named like `enum flow_state`. */
export interface FlowTimeouts {
	tcpOpening: number;
	tcpEstablished: number;
	tcpClosing: number;
	tcpClosed: number;
	udpOpening: number;
	udpEstablished: number;
	icmp: number;
	sctpOpening: number;
	sctpEstablished: number;
	sctpClosed: number;
	other: number;
}

/** Fairway's own Services. */
export interface FairwayProxy {
	enable: boolean;
	/** NodePorts, load balancer and external IPs from outside, and the Node's own processes. */
	proxyAll: boolean;
	/** Which of the Node's addresses have NodePorts; empty: all but loopback and the Pods' gateways. */
	nodePortAddresses: string[];
	nodePortRange: PortRange;
	/** "namespace/name", or a canonical address: left to the Node's own stack. */
	skipServices: string[];
	/** "namespace/name" */
	countFlows: string[];
	proxyLoadBalancerIPs: boolean;
	/** The label `service.kubernetes.io/service-proxy-name` of the Services that are served; "": none. */
	serviceProxyName: string;
	externalIPs: boolean;
	/** Cluster IPs are reachable from outside the cluster. */
	externalClusterIP: boolean;
	defaultLoadBalancerMode: "nat";
	/** As in `http`; "": nowhere. */
	healthServer: string;
}

export interface Config {
	trafficEncapMode: TrafficEncapMode;
	tunnelType: TunnelType;
	/** 0: the IANA port of the tunnel type; see `tunnelPort`. */
	tunnelPort: number;
	tunnelVNI: number;
	noSNAT: boolean;
	/** Empty: not selected by name. */
	transportInterface: string;
	transportInterfaceCIDRs: string[];
	hybrid: {
		/** proven: while probes prove the path; subnet: within a common subnet, without probing. */
		direct: HybridDirect;
		/** Peers with a transport address in one of these are tried directly, even in other subnets. */
		tryDirectCIDRs: string[];
		/** Peers with a transport address in one of these are never direct; takes precedence. */
		neverDirectCIDRs: string[];
	};
	probes: {
		/** Milliseconds from the failure of a direct path under traffic to the tunnel. */
		failoverTime: number;
		/** Seconds that a direct path must be healthy after a failure; doubles each time, up to holdTimeMax. */
		holdTime: number;
		holdTimeMax: number;
	};
	/** 0: from the transport interface. Otherwise the MTU of Pod interfaces. */
	defaultMTU: number;
	xdp: XdpSetting;
	snat: { portRange: PortRange; excludeCIDRs: string[] };
	/** Where Services are, beside the CIDRs of ServiceCIDR objects. */
	serviceCIDRs: string[];
	fairwayProxy: FairwayProxy;
	flows: { max: number; timeouts: FlowTimeouts };
	/** Where the agent serves HTTP, as `listenAddress` reads it; "": nowhere. */
	http: { health: string; metrics: string };
	log: { level: LogLevel };
}

export const IANA_PORTS: Readonly<Record<TunnelType, number>> = { geneve: 6081, vxlan: 4789 };

/** UDP destination port of the tunnels that this Node sends. */
export function tunnelPort(config: Pick<Config, "tunnelType" | "tunnelPort">): number {
	return config.tunnelPort === 0 ? IANA_PORTS[config.tunnelType] : config.tunnelPort;
}

/** An error in a configuration file, with its position. Lines and columns count from 1. */
export interface ConfigError {
	file: string;
	line: number;
	column: number;
	/** It is about the file as such: line and column are 1. */
	whole?: true;
	message: string;
}

export type ConfigResult = { config: Config } | { errors: ConfigError[] };

/** `FILE:LINE:COL: message`; of the file as such: `FILE: message` */
export function formatConfigError({ file, line, column, whole, message }: ConfigError): string {
	return `${file}${whole ? "" : `:${line}:${column}`}: ${message}`;
}

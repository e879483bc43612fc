/**
 * The agent's configuration: a plain value, complete (every default filled in) and canonical
 * (prefixes in canonical text, names in the spelling below).
 */

export type TrafficEncapMode = "encap" | "noEncap" | "hybrid";
export type TunnelType = "geneve" | "vxlan";
export type HybridDirect = "proven" | "subnet";
export type XdpMode = "auto" | "native" | "generic" | "off";
export type LogLevel = "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent";

/** Seconds that a flow of each state is kept without a packet; named like `enum flow_state`. */
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

/** Inclusive on both ends. */
export interface PortRange {
	first: number;
	last: number;
}

export interface Config {
	trafficEncapMode: TrafficEncapMode;
	tunnelType: TunnelType;
	/** 0: the port that IANA gave to the tunnel type; see `tunnelPort`. */
	tunnelPort: number;
	tunnelVNI: number;
	noSNAT: boolean;
	/** Empty: not chosen by name. */
	transportInterface: string;
	transportInterfaceCIDRs: string[];
	hybrid: {
		/** proven: while probes show that it works; subnet: wherever the Nodes share a subnet, unasked. */
		direct: HybridDirect;
		/** Peers with a transport address in one of these are tried directly, in other subnets too. */
		tryDirectCIDRs: string[];
		/** Peers with a transport address in one of these never go direct; comes before the others. */
		neverDirectCIDRs: string[];
	};
	probes: {
		/** Milliseconds from the direct path's failure, under traffic, to the tunnel. */
		failoverTime: number;
		/** Seconds that a direct path has to be good for after a failure; doubled each time, up to the most. */
		holdTime: number;
		holdTimeMax: number;
	};
	/** 0: from the transport interface. Otherwise the MTU of Pod interfaces. */
	defaultMTU: number;
	xdp: XdpMode;
	snat: { portRange: PortRange; excludeCIDRs: string[] };
	flows: { max: number; timeouts: FlowTimeouts };
	log: { level: LogLevel };
}

export const IANA_PORTS: Readonly<Record<TunnelType, number>> = { geneve: 6081, vxlan: 4789 };

/** UDP destination port of the tunnels that this Node sends. */
export function tunnelPort(config: Pick<Config, "tunnelType" | "tunnelPort">): number {
	return config.tunnelPort === 0 ? IANA_PORTS[config.tunnelType] : config.tunnelPort;
}

/** What is wrong in a configuration file, and where. Lines and columns count from 1. */
export interface ConfigError {
	file: string;
	line: number;
	column: number;
	message: string;
}

export type ConfigResult = { config: Config } | { errors: ConfigError[] };

/** `FILE:LINE:COL: message` */
export function formatConfigError(error: ConfigError): string {
	return `${error.file}:${error.line}:${error.column}: ${error.message}`;
}

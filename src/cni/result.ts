/**
 * The Result of ADD, in the format of the configuration's CNI version. Pure, and built only from the
 * endpoint's record, so that repeating ADD gives the same answer.
 */
import type { Endpoint } from "./endpoint.js";
import { isAtLeast, type NetworkConfiguration } from "./request.js";

export interface Result {
	cniVersion: string;
	interfaces: object[];
	ips: object[];
	routes: object[];
	dns: object;
}

export function addResult(
	endpoint: Endpoint,
	hostMac: string,
	config: Pick<NetworkConfiguration, "cniVersion" | "dns" | "prevResult">,
): Result {
	const { cniVersion, dns, prevResult } = config;
	const mtu = isAtLeast(cniVersion, "1.1.0") ? { mtu: endpoint.mtu } : {};
	const before = prevResult?.interfaces ?? [];
	return {
		cniVersion,
		interfaces: [
			...before,
			{ name: endpoint.hostInterface, mac: hostMac, ...mtu },
			{ name: endpoint.ifName, mac: endpoint.mac, ...mtu, sandbox: endpoint.netns },
		],
		ips: [
			...(prevResult?.ips ?? []),
			...endpoint.addresses.map((address, i) => ({
				// Removed in version 1.0.0.
				...(isAtLeast(cniVersion, "1.0.0") ? {} : { version: isV6(address) ? "6" : "4" }),
				interface: before.length + 1,
				address: hostPrefix(address),
				gateway: endpoint.gateways[i],
			})),
		],
		routes: [
			...(prevResult?.routes ?? []),
			...endpoint.addresses.map((address, i) => ({
				dst: defaultPrefix(address),
				gw: endpoint.gateways[i],
			})),
		],
		dns: dns ?? prevResult?.dns ?? {},
	};
}

export function isV6(address: string): boolean {
	return address.includes(":");
}

/** The address as a host prefix: "10.244.1.2/32". */
export function hostPrefix(address: string): string {
	return `${address}/${isV6(address) ? 128 : 32}`;
}

export function defaultPrefix(address: string): string {
	return isV6(address) ? "::/0" : "0.0.0.0/0";
}

/**
 * Rules of the shape that kube-proxy writes, in its iptables and its nftables mode (version 1.34), with
 * its comments left out: for IPv4, ClusterIP and NodePort, traffic policy Cluster, no affinity. Pure.
 *
 * What a packet meets is the same as with kube-proxy itself: iptables walks through one rule for each
 * port of a Service; nftables asks one map. Both translate by conntrack.
 */
import type { PortPlan, ServicePlan } from "./service_plan.js";

const POD_CIDR = "10.244.0.0/16";
const MARK = "0x4000";

interface Item {
	service: ServicePlan;
	port: PortPlan;
	protocol: string;
	/** Names the chains of this port. */
	id: string;
}

function items(plans: readonly ServicePlan[]): Item[] {
	return plans.flatMap((service, i) =>
		service.ports.map((port, p) => ({
			...{ service, port, protocol: port.protocol.toLowerCase() },
			id: (i * 2 + p).toString(36).toUpperCase().padStart(16, "0"),
		})),
	);
}

/** For iptables-restore. */
export function iptablesRules(plans: readonly ServicePlan[]): string {
	const chains: string[] = [];
	const rules: string[] = [];
	const services: string[] = [];
	const nodePorts: string[] = [];
	for (const { service, port, protocol, id } of items(plans)) {
		const to = `-d ${service.clusterIP}/32 -p ${protocol} -m ${protocol} --dport ${port.port}`;
		services.push(`-A KUBE-SERVICES ${to} -j KUBE-SVC-${id}`);
		chains.push(`:KUBE-SVC-${id} - [0:0]`);
		rules.push(`-A KUBE-SVC-${id} ! -s ${POD_CIDR} ${to} -j KUBE-MARK-MASQ`);
		if (port.nodePort !== undefined) {
			chains.push(`:KUBE-EXT-${id} - [0:0]`);
			nodePorts.push(
				`-A KUBE-NODEPORTS -p ${protocol} -m ${protocol} --dport ${port.nodePort} -j KUBE-EXT-${id}`,
			);
			rules.push(`-A KUBE-EXT-${id} -j KUBE-MARK-MASQ`, `-A KUBE-EXT-${id} -j KUBE-SVC-${id}`);
		}
		const { endpoints } = service;
		for (const [e, endpoint] of endpoints.entries()) {
			const chain = `KUBE-SEP-${id}${e}`;
			chains.push(`:${chain} - [0:0]`);
			const left = endpoints.length - e;
			const chance =
				left > 1
					? ` -m statistic --mode random --probability ${Math.min(1 / left, 0.9999999999).toFixed(11)}`
					: "";
			rules.push(
				`-A KUBE-SVC-${id}${chance} -j ${chain}`,
				`-A ${chain} -s ${endpoint}/32 -j KUBE-MARK-MASQ`,
				`-A ${chain} -p ${protocol} -m ${protocol} -j DNAT --to-destination ${endpoint}:${port.target}`,
			);
		}
	}
	return [
		"*filter",
		":INPUT ACCEPT [0:0]",
		":FORWARD ACCEPT [0:0]",
		":OUTPUT ACCEPT [0:0]",
		":KUBE-SERVICES - [0:0]",
		":KUBE-EXTERNAL-SERVICES - [0:0]",
		":KUBE-FORWARD - [0:0]",
		":KUBE-NODEPORTS - [0:0]",
		":KUBE-PROXY-FIREWALL - [0:0]",
		"-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
		"-A INPUT -j KUBE-NODEPORTS",
		"-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES",
		"-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
		"-A FORWARD -j KUBE-FORWARD",
		"-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES",
		"-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES",
		"-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
		"-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES",
		"-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
		`-A KUBE-FORWARD -m mark --mark ${MARK}/${MARK} -j ACCEPT`,
		"-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"COMMIT",
		"*nat",
		":PREROUTING ACCEPT [0:0]",
		":INPUT ACCEPT [0:0]",
		":OUTPUT ACCEPT [0:0]",
		":POSTROUTING ACCEPT [0:0]",
		":KUBE-SERVICES - [0:0]",
		":KUBE-NODEPORTS - [0:0]",
		":KUBE-POSTROUTING - [0:0]",
		":KUBE-MARK-MASQ - [0:0]",
		...chains,
		"-A PREROUTING -j KUBE-SERVICES",
		"-A OUTPUT -j KUBE-SERVICES",
		"-A POSTROUTING -j KUBE-POSTROUTING",
		`-A KUBE-MARK-MASQ -j MARK --or-mark ${MARK}`,
		`-A KUBE-POSTROUTING -m mark ! --mark ${MARK}/${MARK} -j RETURN`,
		`-A KUBE-POSTROUTING -j MARK --xor-mark ${MARK}`,
		"-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
		...services,
		"-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
		...nodePorts,
		...rules,
		"COMMIT\n",
	].join("\n");
}

/** For nft -f. */
export function nftRules(plans: readonly ServicePlan[], nodeAddress: string): string {
	const chains: string[] = [];
	const serviceIps: string[] = [];
	const nodePorts: string[] = [];
	const clusterIps = plans.map(({ clusterIP }) => clusterIP);
	for (const { service, port, protocol, id } of items(plans)) {
		const { endpoints, clusterIP } = service;
		const to = `ip daddr ${clusterIP} ${protocol} dport ${port.port}`;
		serviceIps.push(`${clusterIP} . ${protocol} . ${port.port} : goto service-${id}`);
		const names = endpoints.map((_, e) => `endpoint-${id}-${e}`);
		for (const [e, endpoint] of endpoints.entries())
			chains.push(
				`chain ${names[e]} {
					ip saddr ${endpoint} jump mark-for-masquerade
					meta l4proto ${protocol} dnat to ${endpoint}:${port.target}
				}`,
			);
		chains.push(
			`chain service-${id} {
				${to} ip saddr != ${POD_CIDR} jump mark-for-masquerade
				numgen random mod ${names.length} vmap { ${names.map((name, e) => `${e} : goto ${name}`).join(", ")} }
			}`,
		);
		if (port.nodePort === undefined) continue;
		chains.push(`chain external-${id} { jump mark-for-masquerade; goto service-${id}; }`);
		nodePorts.push(`${protocol} . ${port.nodePort} : goto external-${id}`);
	}
	const elements = (all: string[]) => (all.length === 0 ? "" : `elements = { ${all.join(", ")} }`);
	return `table ip kube-proxy {
		set cluster-ips { type ipv4_addr; ${elements(clusterIps)} }
		set nodeport-ips { type ipv4_addr; elements = { ${nodeAddress} } }
		map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
		map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
		map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
		chain mark-for-masquerade { meta mark set meta mark or ${MARK}; }
		${chains.join("\n")}
		map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; ${elements(serviceIps)} }
		map service-nodeports { type inet_proto . inet_service : verdict; ${elements(nodePorts)} }
		chain services {
			ip daddr . meta l4proto . th dport vmap @service-ips
			ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
		}
		chain masquerading {
			meta mark and ${MARK} == 0 return
			meta mark set meta mark xor ${MARK}
			masquerade fully-random
		}
		chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
		chain cluster-ips-check { ip daddr @cluster-ips reject; }
		chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
		chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
		chain filter-prerouting-pre-dnat { type filter hook prerouting priority dstnat - 10; ct state new jump firewall-check; }
		chain filter-output-pre-dnat { type filter hook output priority -110; ct state new jump firewall-check; }
		chain filter-input { type filter hook input priority filter; ct state new jump nodeport-endpoints-check; ct state new jump service-endpoints-check; }
		chain filter-forward { type filter hook forward priority filter; ct state new jump service-endpoints-check; ct state new jump cluster-ips-check; }
		chain filter-output { type filter hook output priority filter; ct state new jump service-endpoints-check; ct state new jump cluster-ips-check; }
		chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
		chain nat-output { type nat hook output priority -100; jump services; }
		chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
	}\n`;
}

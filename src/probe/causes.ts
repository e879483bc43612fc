/**
 * Known causes of broken paths, by the pattern that they leave, and what to change where. The text of
 * `fairway check` and of docs/CLOUDS.md (`npm run generate`).
 */
import type { Direction, Findings, PathSurvey, WayFindings } from "./survey/survey.js";

export type CauseId =
	| "pod-addresses"
	| "no-route"
	| "direct-size"
	| "tunnel-blocked"
	| "tunnel-size"
	| "silent"
	| "gone";

/** The affected direction, seen from this Node. "unknown": one or both. */
export type Suffers = "there" | "back" | "both" | "unknown";

/** A cloud or system, and the setting in it. */
export interface Place {
	name: string;
	/** A plain sentence. */
	what: string;
	/** Sentences, and commands ("$ ...") with placeholders in capitals. */
	change: readonly string[];
}

export interface Cause {
	id: CauseId;
	/** The symptom: a plain sentence. */
	pattern: string;
	places: readonly Place[];
}

const POD_ADDRESSES: readonly Place[] = [
	{
		name: "AWS",
		what: "The source/destination check of a network interface drops packets that are not from or to its own addresses. Disable it on every interface that carries Pod traffic, on all Nodes.",
		change: [
			"$ aws ec2 modify-network-interface-attribute --network-interface-id ENI --no-source-dest-check",
		],
	},
	{
		name: "AWS",
		what: "A security group rule whose source is a group matches the Nodes' addresses, not those of Pods. Add a rule for the pod CIDRs (Ipv6Ranges and CidrIpv6 for IPv6).",
		change: [
			"$ aws ec2 authorize-security-group-ingress --group-id GROUP --ip-permissions 'IpProtocol=-1,IpRanges=[{CidrIp=POD_CIDR}]'",
		],
	},
	{
		name: "GCE",
		what: "A VM without canIpForward can send and receive only with its own addresses and alias ranges.",
		change: [
			"$ gcloud compute instances export NODE --zone=ZONE --destination=node.yaml",
			"Set canIpForward: true in node.yaml.",
			"$ gcloud compute instances update-from-file NODE --zone=ZONE --source=node.yaml",
		],
	},
	{
		name: "GCE",
		what: "The VPC firewall allows only what a rule names. Add a rule for the pod CIDRs.",
		change: [
			"$ gcloud compute firewall-rules create pods --network=NETWORK --allow=all --source-ranges=POD_CIDRS",
		],
	},
	{
		name: "Azure",
		what: "A virtual network drops packets to addresses that it does not know, even within a subnet. Direct paths need a route for each pod CIDR.",
		change: [
			"$ az network route-table route create --resource-group GROUP --route-table-name TABLE --name NODE --address-prefix POD_CIDR --next-hop-type VirtualAppliance --next-hop-ip-address NODE_IP",
			"$ az network vnet subnet update --resource-group GROUP --vnet-name VNET --name SUBNET --route-table TABLE",
		],
	},
	{
		name: "Azure",
		what: "A NIC without IP forwarding can send and receive only with its own addresses.",
		change: ["$ az network nic update --resource-group GROUP --name NIC --ip-forwarding true"],
	},
	{
		name: "NSX",
		what: "SpoofGuard drops packets whose source address is not bound to the VM's port.",
		change: [
			"Give the Nodes' segment or ports a SpoofGuard profile without port bindings (address_binding_allowlist false in the policy API), or bind the pod CIDRs.",
		],
	},
	{
		name: "NSX",
		what: "A VM group in the distributed firewall matches the discovered addresses of its VMs, not those of Pods.",
		change: ["Add the pod CIDRs as IP addresses to the groups in the rules between the Nodes."],
	},
	{
		name: "OpenStack",
		what: "Port security drops packets that are not from the port's own addresses or its allowed address pairs.",
		change: [
			"$ openstack port set --allowed-address ip-address=POD_CIDR PORT",
			"Or disable port security and security groups:",
			"$ openstack port set --no-security-group --disable-port-security PORT",
		],
	},
	{
		name: "OpenStack",
		what: "A security group rule with a remote group allows only the addresses of the group's members.",
		change: ["$ openstack security group rule create --protocol any --remote-ip POD_CIDR GROUP"],
	},
	{
		name: "elsewhere",
		what: "Hypervisors and switches can bind ports to addresses (libvirt's clean-traffic filter, Proxmox' ipfilter, IP source guard), and firewalls may know only the Nodes' addresses.",
		change: ["Allow the pod CIDRs on the Nodes' ports."],
	},
];

const NO_ROUTE: readonly Place[] = [
	{
		name: "AWS",
		what: "The subnet's route table needs a route for the pod CIDR of each Node, to that Node's network interface.",
		change: [
			"$ aws ec2 create-route --route-table-id TABLE --destination-cidr-block POD_CIDR --network-interface-id ENI",
			"For IPv6, use --destination-ipv6-cidr-block instead of --destination-cidr-block.",
		],
	},
	{
		name: "GCE",
		what: "The VPC needs a route for the pod CIDR of each Node, or the pod CIDR as an alias range of the VM.",
		change: [
			"$ gcloud compute routes create pods-NODE --network=NETWORK --destination-range=POD_CIDR --next-hop-instance=NODE --next-hop-instance-zone=ZONE",
			"$ gcloud compute instances network-interfaces update NODE --zone=ZONE --aliases=RANGE_NAME:POD_CIDR",
		],
	},
	{
		name: "NSX",
		what: "The Tier-1 gateway needs a static route for the pod CIDR of each Node.",
		change: ["Add a static route to POD_CIDR with the next hop NODE_IP."],
	},
	{
		name: "OpenStack",
		what: "The router needs a route for the pod CIDR of each Node.",
		change: ["$ openstack router add route --route destination=POD_CIDR,gateway=NODE_IP ROUTER"],
	},
	{
		name: "elsewhere",
		what: "Every router between the Nodes needs a route for the pod CIDR of each Node.",
		change: ["On a Linux router:", "$ ip route add POD_CIDR via NODE_IP"],
	},
	{
		name: "elsewhere",
		what: "Strict reverse path filtering (rp_filter 1) drops Pod packets that arrive on another interface than the one that the route back uses.",
		change: ["On a Linux router:", "$ sysctl net.ipv4.conf.INTERFACE.rp_filter=2"],
	},
];

const DIRECT_SIZE: readonly Place[] = [
	{
		name: "AWS",
		what: "The MTU is 9001 within a VPC, 8500 through a transit gateway, and 1500 over VPN or an internet gateway.",
		change: [
			"Set the Nodes' interfaces to an MTU that works between all of them, or set defaultMTU in the configuration.",
			"$ ip link set INTERFACE mtu 1500",
		],
	},
	{
		name: "GCE",
		what: "A VPC has an MTU of 1460 unless it was created with another; larger packets are lost.",
		change: [
			"$ gcloud compute networks describe NETWORK --format='value(mtu)'",
			"Set the Nodes' interfaces to that MTU, or change the network's while the VMs are stopped:",
			"$ gcloud compute networks update NETWORK --mtu=1500",
		],
	},
	{
		name: "OpenStack",
		what: "Tenant networks are themselves tunnelled, with an MTU of 1450 or less on a fabric of 1500.",
		change: [
			"Set the Nodes' interfaces to the network's MTU:",
			"$ openstack network show NETWORK -c mtu",
		],
	},
	{
		name: "elsewhere",
		what: "One segment between the Nodes has a smaller MTU than their interfaces (a VPN, a switch without jumbo frames).",
		change: [
			"Test a size with (SIZE is the MTU minus 28, for IPv6 minus 48):",
			"$ ping -M do -s SIZE NODE_IP",
			"Raise that segment's MTU, or set defaultMTU in the configuration to the size that gets through.",
		],
	},
];

const TUNNEL_BLOCKED: readonly Place[] = [
	{
		name: "AWS",
		what: "The security group does not allow the tunnel's UDP port (6081 for Geneve, 4789 for VXLAN, or tunnelPort).",
		change: [
			"$ aws ec2 authorize-security-group-ingress --group-id GROUP --protocol udp --port 6081 --source-group GROUP",
		],
	},
	{
		name: "GCE",
		what: "The VPC firewall does not allow the tunnel's UDP port.",
		change: [
			"$ gcloud compute firewall-rules create tunnels --network=NETWORK --allow=udp:6081,udp:4789 --source-ranges=NODE_CIDRS",
		],
	},
	{
		name: "Azure",
		what: "The network security group does not allow the tunnel's UDP port.",
		change: [
			"$ az network nsg rule create --resource-group GROUP --nsg-name NSG --name tunnels --priority 200 --protocol Udp --source-address-prefixes NODE_CIDR --destination-port-ranges 6081 4789 --access Allow",
		],
	},
	{
		name: "NSX",
		what: "The distributed firewall does not allow the tunnel's UDP port between the Nodes.",
		change: ["Add a rule for UDP 6081 (VXLAN: 4789) between the Nodes."],
	},
	{
		name: "OpenStack",
		what: "The security group does not allow the tunnel's UDP port.",
		change: [
			"$ openstack security group rule create --protocol udp --dst-port 6081 --remote-group GROUP GROUP",
		],
	},
	{
		name: "elsewhere",
		what: "A firewall on a Node or between the Nodes does not allow the tunnel's UDP port.",
		change: [
			"$ firewall-cmd --permanent --add-port=6081/udp && firewall-cmd --reload",
			"Or without firewalld:",
			"$ iptables -I INPUT -p udp --dport 6081 -j ACCEPT",
		],
	},
	{
		name: "elsewhere",
		what: "The peer accepts tunnel packets only from addresses of known Nodes, and only with its own tunnelVNI.",
		change: [
			"On the peer, look for the drops tunnel_unknown_peer and tunnel_bad_vni:",
			"$ fairway status",
		],
	},
];

const TUNNEL_SIZE: readonly Place[] = [
	{
		name: "everywhere",
		what: "Full-size tunnel packets are as long as the transport interface's MTU, and a segment on the way may carry less. A tunnel adds 50 bytes over IPv4 and 70 over IPv6 to the Pod's packet.",
		change: [
			"As for direct packets: raise that segment's MTU, or set defaultMTU in the configuration to the size that gets through.",
		],
	},
	...DIRECT_SIZE,
];

export const CAUSES: readonly Cause[] = [
	{
		id: "pod-addresses",
		pattern:
			"Packets with Node addresses get through, packets with Pod addresses do not: something on the way checks addresses.",
		places: POD_ADDRESSES,
	},
	{
		id: "no-route",
		pattern:
			"Packets to Pods are lost behind a router: the network has no routes to the pod CIDRs.",
		places: NO_ROUTE,
	},
	{
		id: "direct-size",
		pattern: "Small direct packets get through, packets as long as the interface's MTU do not.",
		places: DIRECT_SIZE,
	},
	{
		id: "tunnel-blocked",
		pattern: "Direct packets get through, tunnel packets do not: their UDP port is blocked.",
		places: TUNNEL_BLOCKED,
	},
	{
		id: "tunnel-size",
		pattern: "Small packets get through the tunnel, full-size packets do not.",
		places: TUNNEL_SIZE,
	},
	{
		id: "gone",
		pattern: "A peer that answered before no longer answers.",
		places: [
			{
				name: "everywhere",
				what: "The Node is down or unreachable, its transport address has changed, or a firewall now blocks the path.",
				change: ["$ ping NODE_IP", "And on the peer:", "$ fairway status"],
			},
		],
	},
	{
		id: "silent",
		pattern: "A peer has never answered a probe.",
		places: [
			{
				name: "everywhere",
				what: "The peer runs another implementation (which may work well), or does not run Fairway, or everything between the Nodes is blocked.",
				change: ["$ ping NODE_IP", "And on the peer:", "$ fairway status"],
			},
		],
	},
];

export interface Suspicion {
	cause: CauseId;
	suffers: Suffers;
}

/** The causes whose pattern matches. */
export function suspects(survey: PathSurvey, findings: Findings): Suspicion[] {
	if (!findings.asked) return [];
	if (!findings.answered)
		return [{ cause: survey.answers ? "gone" : "silent", suffers: "unknown" }];
	const found: Suspicion[] = [];
	const { direct, tunnel } = findings;
	if (direct !== null) {
		const suffers = failing(direct, "small");
		if (suffers !== undefined) {
			if ("kind" in survey.direct && survey.direct.kind === "routed")
				found.push({ cause: "no-route", suffers });
			found.push({ cause: "pod-addresses", suffers });
		}
		const cut = failing(direct, "full");
		if (cut !== undefined) found.push({ cause: "direct-size", suffers: cut });
	}
	if (tunnel !== null) {
		const suffers = failing(tunnel, "small");
		if (suffers !== undefined) found.push({ cause: "tunnel-blocked", suffers });
		const cut = failing(tunnel, "full");
		if (cut !== undefined) found.push({ cause: "tunnel-size", suffers: cut });
	}
	return found;
}

/** The failing direction for this size; undefined: none, or ("full") small packets fail as well. */
function failing({ there, back, state }: WayFindings, size: "small" | "full"): Suffers | undefined {
	const fails = (direction: Direction) =>
		direction[size].finding === "fails" &&
		(size === "small" || direction.small.finding === "works");
	const [out, home] = [fails(there), fails(back)];
	if (out || home) return out && home ? "both" : out ? "there" : "back";
	// Silence that cannot be attributed to a direction.
	const legs = [there.small, there.full, back.small, back.full];
	if (state !== "fails" || legs.some(({ finding }) => finding === "fails")) return undefined;
	const smallWorks = there.small.finding === "works" && back.small.finding === "works";
	return smallWorks === (size === "full") ? "unknown" : undefined;
}

export interface FoundCause extends Cause {
	peers: { node: string; family: 4 | 6; suffers: Suffers }[];
}

/** Each cause that affects a peer, with the affected peers. */
export function gather(
	peers: readonly { node: string; family: 4 | 6; suspicions: readonly Suspicion[] }[],
): FoundCause[] {
	return CAUSES.map((cause) => ({
		...cause,
		peers: peers.flatMap(({ node, family, suspicions }) =>
			suspicions
				.filter((suspicion) => suspicion.cause === cause.id)
				.map(({ suffers }) => ({ node, family, suffers })),
		),
	})).filter(({ peers: suffering }) => suffering.length > 0);
}

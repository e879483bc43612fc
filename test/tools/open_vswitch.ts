/**
 * Open vSwitch with its userspace datapath on a Node of the lab: OpenFlow rules route between Geneve and
 * the Node's Pods. Its daemons have directories of their own.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.js";
import { familyOf } from "../../src/lab/subnet.js";

const SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema";
const GATEWAY_MAC = "02:00:00:00:0f:5a";
/** The inner destination MAC that Fairway sends to and accepts. */
const FAIRWAY_MAC = "02:fa:1c:00:00:01";

export class OpenVSwitch {
	private readonly lab: Lab;
	private readonly node: string;
	private readonly directory: string;

	private constructor(lab: Lab, node: string, directory: string) {
		this.lab = lab;
		this.node = node;
		this.directory = directory;
	}

	/** The Node's Pods must be attached. The daemons end together with the lab's namespaces. */
	static async start(lab: Lab, node: string, vni: number): Promise<OpenVSwitch> {
		const ovs = new OpenVSwitch(lab, node, mkdtempSync(join(tmpdir(), "fairway-ovs-")));
		const { directory } = ovs;
		await ovs.run(`
			ovsdb-tool create ${directory}/conf.db ${SCHEMA}
			ovsdb-server ${directory}/conf.db --remote=punix:${directory}/db.sock \
				--pidfile --detach --no-chdir --log-file -vconsole:off
			ovs-vsctl --no-wait init
			ovs-vswitchd --pidfile --detach --no-chdir --log-file -vconsole:off
		`);
		await ovs.takeOverWire();
		await ovs.route(vni);
		return ovs;
	}

	/** Runs a command with OVS's directories in the Node's namespace. */
	run(script: string): Promise<{ stdout: string }> {
		const { directory } = this;
		return this.lab.namespace(this.node).script(script, {
			environment: {
				OVS_RUNDIR: directory,
				OVS_LOGDIR: directory,
				OVS_DBDIR: directory,
				OVS_SYSCONFDIR: directory,
				DB_SOCK: `${directory}/db.sock`,
			},
		});
	}

	remove(): void {
		rmSync(this.directory, { recursive: true, force: true });
	}

	/**
	 * Makes eth0 a port of br-ext, which gets its addresses. Otherwise the kernel would also see and answer
	 * every packet, and merged packets would not fit the port.
	 */
	private async takeOverWire(): Promise<void> {
		const node = this.lab.topology.nodes.find(({ name }) => name === this.node);
		const subnet = this.lab.topology.subnets.find(({ name }) => name === node?.subnet);
		const addresses = node?.addresses ?? [];
		await this.run(`
			ethtool -K eth0 gro off tx off
			ip address flush dev eth0
			ovs-vsctl add-br br-ext -- set bridge br-ext datapath_type=netdev fail-mode=standalone \
				other-config:hwaddr=\\"${await this.mac(node?.name ?? "")}\\"
			ovs-vsctl add-port br-ext eth0
			ip link set dev br-ext up
			ethtool -K br-ext tx off || true
			${addresses.map((a) => `ip address add ${a} dev br-ext${familyOf(a) === 6 ? " nodad" : ""}`).join("\n")}
			${(subnet?.routers ?? []).map((r) => `ip route replace default via ${r.split("/")[0]} dev br-ext`).join("\n")}
		`);
	}

	/** The MAC address of eth0. (/sys shows the devices of the namespace in which it was mounted.) */
	private async mac(machine: string): Promise<string> {
		const { stdout } = await this.lab.run(machine, ["ip", "-json", "link", "show", "dev", "eth0"]);
		return (JSON.parse(stdout) as { address: string }[])[0]?.address ?? "";
	}

	/** Decrements the TTL and forwards to the Node that has the destination's pod CIDR. */
	private async route(vni: number): Promise<void> {
		const { lab, node } = this;
		const pods = lab.topology.pods.filter((pod) => pod.node === node);
		const flows = ["table=0,priority=0,actions=drop"];
		const ports: string[] = [];
		for (const [i, { label }] of pods.entries()) {
			const port = i + 10;
			ports.push(
				`ovs-vsctl add-port br-int pod${i + 2} -- set interface pod${i + 2} ofport_request=${port}`,
			);
			const mac = await this.mac(label);
			for (const [family, address] of Object.entries(lab.attachments.get(label)?.addresses ?? {}))
				flows.push(
					`table=0,priority=20,${match(Number(family), address)},actions=dec_ttl,` +
						`set_field:${GATEWAY_MAC}->eth_src,set_field:${mac}->eth_dst,output:${port}`,
				);
			// Nobody answers for the Pod's gateway, so its neighbour entry is static.
			await lab.namespace(label).script(`
				ip neigh replace 169.254.1.1 lladdr ${GATEWAY_MAC} dev eth0 nud permanent
				ip neigh replace fe80::1 lladdr ${GATEWAY_MAC} dev eth0 nud permanent
			`);
		}
		for (const peer of lab.topology.nodes)
			for (const cidr of peer.name === node ? [] : peer.podCIDRs) {
				const family = familyOf(cidr);
				const field = family === 4 ? "tun_dst" : "tun_ipv6_dst";
				flows.push(
					`table=0,priority=10,${match(family, cidr)},actions=dec_ttl,set_field:${vni}->tun_id,` +
						`set_field:${lab.address(peer.name, family)}->${field},` +
						`set_field:${GATEWAY_MAC}->eth_src,set_field:${FAIRWAY_MAC}->eth_dst,output:1`,
				);
			}
		await this.run(`
			ovs-vsctl add-br br-int -- set bridge br-int datapath_type=netdev fail-mode=secure
			ovs-vsctl add-port br-int geneve0 -- set interface geneve0 type=geneve ofport_request=1 \
				options:remote_ip=flow options:key=flow options:csum=false
			${ports.join("\n")}
			for port in ${pods.map((_, i) => `pod${i + 2}`).join(" ")}; do
				ip address flush dev $port; ethtool -K $port gro off tx off
			done
			ovs-ofctl add-flows br-int - <<'FLOWS'\n${flows.join("\n")}\nFLOWS
		`);
	}
}

function match(family: number, destination: string): string {
	return family === 4 ? `ip,nw_dst=${destination}` : `ipv6,ipv6_dst=${destination}`;
}

/**
 * Services in the tables that no object read since the agent's start accounts for: until all Services and
 * EndpointSlices have been read, the entries of an earlier agent stay. Their names are not known.
 */
import type { FrontendStatus, ServiceStatus } from "../api/messages/services.js";
import { protocolName } from "../cluster/service_ports.js";
import { FrontendKind, type Service } from "../tables/generated.js";
import type { HeldServiceMaps } from "../tables/tables.js";
import { type PlaceContext, placeOf } from "./services.js";

const KINDS: Readonly<Record<number, FrontendStatus["kind"]>> = {
	[FrontendKind.CLUSTER_IP]: "clusterIP",
	[FrontendKind.NODE_PORT]: "nodePort",
	[FrontendKind.LOAD_BALANCER]: "loadBalancer",
	[FrontendKind.EXTERNAL_IP]: "externalIP",
};
const TYPES = { clusterIP: "ClusterIP", nodePort: "NodePort", loadBalancer: "LoadBalancer" };
const WHY =
	"An earlier agent left it. It is served as it was then until all Services and EndpointSlices have been read.";

type Held = Pick<HeldServiceMaps, "frontends" | "services" | "serviceSlots" | "backends">;

/** @param known indexes in `services` that an object accounts for */
export function formerServices(
	held: Held,
	known: ReadonlySet<number>,
	context: PlaceContext,
): ServiceStatus[] {
	const rows = new Map<number, ServiceStatus>();
	for (const [key, frontend] of held.frontends) {
		const kind = KINDS[frontend.kind];
		const service = held.services.get(frontend.service);
		if (kind === undefined || service === undefined || known.has(frontend.service)) continue;
		const [address = "", protocol, number] = key.split(" ");
		const port = Number(number);
		let row = rows.get(frontend.service);
		if (row === undefined) {
			row = {
				...{ namespace: "", name: "", portName: "", isFormer: true, why: [WHY] },
				...{ port, protocol: protocolName(Number(protocol)), type: "ClusterIP" },
				...{ frontends: [], backends: backendsOf(held, service, context) },
			};
			rows.set(frontend.service, row);
		}
		row.frontends.push({ address, port, kind });
		if (kind === "clusterIP") row.port = port;
		else if (kind !== "externalIP" && row.type !== "LoadBalancer") row.type = TYPES[kind];
	}
	const textOf = ({ frontends, port }: ServiceStatus) =>
		`${frontends.map(({ address }) => address).join()} ${port}`;
	return [...rows.values()].sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1));
}

function backendsOf(
	{ serviceSlots, backends }: Held,
	{ clusterSet, localSet }: Service,
	context: PlaceContext,
): ServiceStatus["backends"] {
	const ids = new Set<number>();
	for (const set of [clusterSet, localSet])
		for (let at = 0; at < Number(set >> 32n); at++) {
			const id = serviceSlots.get(Number(set & 0xffffffffn) + at);
			if (id !== undefined) ids.add(id);
		}
	return [...ids].flatMap((id) => {
		const backend = backends.get(id);
		if (backend === undefined) return [];
		const { address, port } = backend;
		return [{ address, port, ...placeOf({ address, node: "" }, context), state: "ready" as const }];
	});
}

/** The part of `explain` about a Service: the Service, the endpoints that may be chosen, and the one that is. */
import type { ExplainAnswer, ExplainBackend, ExplainService } from "../api/messages/explain.js";
import type { ServicePortView, ServiceView } from "../compile/services/view.js";
import type { Decision, ServiceDecision } from "../forwarder/forwarder.js";
import { FrontendKind } from "../tables/generated.js";
import type { ExplainContext } from "./explain.js";
import { type FrontendName, placeOf } from "./services.js";

/** A port of a Service in one family, as it is in force. */
export interface NamedPort {
	service: ServiceView;
	port: ServicePortView;
}

const KINDS: Readonly<Record<number, FrontendName>> = {
	[FrontendKind.CLUSTER_IP]: "clusterIP",
	[FrontendKind.NODE_PORT]: "nodePort",
	[FrontendKind.LOAD_BALANCER]: "loadBalancer",
	[FrontendKind.EXTERNAL_IP]: "externalIP",
};

export function serviceAnswer(
	{ service: decided, backends }: Decision,
	context: ExplainContext,
): Pick<ExplainAnswer, "service" | "backend" | "backends"> {
	if (decided === undefined) return { service: null, backend: null, backends: [] };
	const named = context.servicePort(decided);
	const of = ({ address, port }: { address: string; port: number }): ExplainBackend => {
		const known = named?.port.backends.find((one) => one.address === address && one.port === port);
		return { address, port, ...placeOf({ address, node: known?.node ?? "" }, context.places) };
	};
	const { backend, candidates = [] } = decided;
	const all = backends?.map((one) => one.backend) ?? candidates;
	return {
		service: named === undefined ? null : described(decided, named),
		backend: backend === undefined ? null : of(backend),
		backends: all.map(of),
	};
}

function described(decided: ServiceDecision, { service, port: view }: NamedPort): ExplainService {
	const { frontend, set, candidates, by } = decided;
	const { namespace, name, type } = service;
	const { address, port, kind } = frontend;
	return {
		...{ namespace, name, port: view.port, portName: view.name, type },
		frontend: { address, port, kind: kind === undefined ? null : (KINDS[kind] ?? null) },
		set:
			set === undefined || candidates === undefined
				? null
				: { name: set, used: candidates.length, of: view.backends.length, why: whySet(set, view) },
		by: by ?? null,
	};
}

/** A sentence. */
function whySet(set: "cluster" | "local", { why, backends }: ServicePortView): string {
	if (set === "cluster") return why;
	const local = backends.filter(({ inLocalSet }) => inLocalSet);
	if (local.length === 0) return "None is on this Node.";
	return local.some(({ isReady }) => isReady)
		? "Those on this Node that are ready."
		: "Those on this Node: none is ready, these are terminating and still serving.";
}

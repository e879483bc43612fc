/**
 * An agent with only its CNI part: a CniServer behind the agent's socket, in the network namespace that
 * it is started in. The kernel forwards; there is no data path.
 *
 *   cni_agent.ts RUN_DIR VIEW     VIEW: the NodeView as JSON, "null" for a Node that is not ready
 *
 * Besides /cni: POST /view changes the view, POST /fail makes the data path fail with a message (and code),
 * POST /mtu calls updateMTU, GET /state returns endpoints, problems and the last published list.
 */
import { ApiServer } from "../../src/api/server.js";
import type { Endpoint } from "../../src/cni/endpoint.js";
import { CniError, type ErrorCode } from "../../src/cni/errors.js";
import type { CniRequest } from "../../src/cni/protocol.js";
import { CniServer, type NodeView } from "../../src/cni/server.js";
import { IpRoute } from "../../src/linux/iproute.js";

export interface AgentState {
	endpoints: Endpoint[];
	problems: string[];
	published: string[][];
}

const [runDir = "", viewText = "null"] = process.argv.slice(2);
let view = JSON.parse(viewText) as NodeView | null;
let failure: string | null = null;
let code: ErrorCode | undefined;
let published: string[][] = [];

const say = (facts: object, message: string) =>
	process.stdout.write(`${JSON.stringify({ ...facts, msg: message })}\n`);

const server = new CniServer({
	runDir,
	ip: new IpRoute(),
	log: { info: say, warn: say },
	self: () => view ?? undefined,
	onEndpointsChanged: async (endpoints) => {
		published = endpoints.map(({ addresses }) => addresses);
		// Like the real one, it cannot attach without endpoints.
		if (failure === null || endpoints.length === 0) return;
		throw code === undefined ? new Error(failure) : new CniError(code, failure);
	},
});

const done = { status: 200, body: undefined };
await ApiServer.open(runDir, {
	"POST /cni": async (body) => ({ status: 200, body: await server.handle(body as CniRequest) }),
	"POST /view": (body) => {
		view = (body as { view: NodeView | null }).view;
		return done;
	},
	"POST /fail": (body) => {
		({ failure, code } = body as { failure: string | null; code?: ErrorCode });
		return done;
	},
	"POST /mtu": async () => {
		await server.updateMTU();
		return done;
	},
	"GET /state": () => {
		const state: AgentState = {
			endpoints: server.endpoints(),
			problems: server.problems(),
			published,
		};
		return { status: 200, body: state };
	},
});
await server.workOffDeletions();
say({}, "ready");

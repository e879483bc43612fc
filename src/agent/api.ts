/** The requests that the agent's socket serves, and what answers each. */
import { ApiServer } from "../api/server.js";
import type { CniRequest, CniResponse } from "../cni/protocol.js";
import type { PathEvents } from "../observe/path_events.js";
import type { Prober } from "../probe/prober.js";
import type { Log } from "../text/log.js";
import { version } from "../text/version.js";
import type { Answers } from "./answers.js";

/** What answers. */
export interface Answering {
	answers: Answers;
	events: () => ReturnType<PathEvents["list"]>;
	surveyProgress: () => ReturnType<Prober["surveyProgress"]>;
	handleCni: (request: CniRequest) => Promise<CniResponse>;
}

/** A request may bring the policies of a whole cluster, for a comparison. */
const BODY_MAX = 16 * 1024 * 1024;

/**
 * Locks the run directory and serves the API in it.
 *
 * @param started throws a RequestError while the agent is starting
 * @throws Error if another agent uses the run directory
 */
export function openApi(runDir: string, log: Log, started: () => Answering): Promise<ApiServer> {
	const ok = (body: unknown) => ({ status: 200, body });
	return ApiServer.open(
		runDir,
		{
			"GET /status": async () => ok(await started().answers.status()),
			"GET /peers": async () => ok(await started().answers.peers()),
			"GET /endpoints": () => ok(started().answers.endpoints()),
			"GET /services": async () => ok(await started().answers.services(undefined)),
			"POST /services": async (body) => ok(await started().answers.services(body ?? {})),
			"GET /events": () => ok(started().events()),
			"GET /check": () => ok(started().surveyProgress()),
			"POST /check": async (body, signal) => ok(await started().answers.check(body, signal)),
			"GET /policies": async () => ok(await started().answers.policies(undefined)),
			"POST /policies": async (body) => ok(await started().answers.policies(body ?? {})),
			"GET /denials": async () => ok(await started().answers.denials()),
			"POST /policy-diff": async (body) => ok(await started().answers.policyDiff(body)),
			"POST /explain": async (body) => ok(await started().answers.explain(body)),
			"POST /cni": async (body) => ok(await started().handleCni(body as CniRequest)),
		},
		{
			bodyMax: BODY_MAX,
			version: version(),
			onError: (error, request) => log.error({ err: error, request }, "API request failed"),
		},
	);
}

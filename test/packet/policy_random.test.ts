/**
 * The whole chain on random clusters: what the interpreter says of a flow is what becomes of its packets, by the
 * compiler's tables in the forwarder and in the eBPF programs. The source's Node judges in from_pod, the
 * destination's in from_wire, to_pod or, for a Service, from_host; of a flow to a Service the backend is judged, and the
 * client that began it. Running flows are judged again after each change. `explain` says the same.
 *
 * POLICY_PACKETS sets the number of packets, POLICY_SEED repeats a run, POLICY_SHRINK=1 makes a failing case small.
 */
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import fc from "fast-check";
import t from "tap";
import type { ExplainPolicySide } from "../../src/api/messages/explain.js";
import type { Decision } from "../../src/forwarder/forwarder.js";
import { atOnce } from "../../src/loop/turns.js";
import { PolicyDiffer } from "../../src/policy/diff.js";
import { type Cluster, type Flow, podAt } from "../../src/policy/interpreter.js";
import { policyAnswer } from "../../src/report/explain_policy.js";
import { Action, DropReasonName, type FlowKey, Hook } from "../../src/tables/generated.js";
import { type Change, Objects } from "../tools/policy_clusters.js";
import { runsOf } from "../tools/random_runs.js";
import { check, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { addNeighbours, NODES, PolicyNode, type Way } from "./policy_node.js";
import {
	type Attempt,
	attemptsOf,
	judgedFlow,
	type ServedStory,
	servedStory,
} from "./policy_services.js";
import { makeNetwork } from "./world.js";

const PACKETS = runsOf("POLICY_PACKETS", 10_000);
/** Makes a failing case small, which takes minutes. */
const SHRINKS = process.env.POLICY_SHRINK === "1";
const FLOW_SLOTS = 1024;
const STORIES = 20;

type Direction = "egress" | "ingress";
type Verdicts = Record<Direction, string | undefined>;

interface Running {
	attempt: Attempt;
	/** Its first packet's tuple. */
	key: FlowKey;
	/** As it is judged: with the backend that it has. */
	flow: Flow;
	way: Way;
	/** After the last change. */
	fate: string;
	/** Where its destination is to this Node. */
	place: string;
}

/** What the tables are to do with a flow, by what they are to say. */
function fateOf({ egress, ingress }: Verdicts): string {
	for (const [direction, text = "none"] of Object.entries({ egress, ingress })) {
		if (text === "closed") return "policy_not_ready";
		if (text.startsWith("deny")) return `policy_${direction}`;
	}
	return "passes";
}

function fateIn({ dropReason }: Decision): string {
	const reason = DropReasonName[dropReason] ?? "none";
	return reason.startsWith("policy_") ? reason : "passes";
}

if (inNamespace(import.meta.url)) {
	makeNetwork();
	addNeighbours();
	const dataPath = new DataPath({ flowSlots: FLOW_SLOTS });
	t.teardown(() => dataPath.close());
	const seed = Number(process.env.POLICY_SEED ?? randomInt(2 ** 31));
	t.comment(`seed ${seed}: POLICY_SEED=${seed} repeats this run`);
	const counts = { packets: 0, writes: 0, running: 0, cut: 0, answers: 0, served: 0 };
	const diffs = { proposed: 0, opened: 0, closed: 0 };
	const seen = new Map<string, number>();

	/** A packet through both, and what they say of it alike. From the wire every other one meets XDP first. */
	const run = async (node: PolicyNode, input: Input, what: unknown): Promise<Decision> => {
		if (input.hook === Hook.FROM_WIRE && counts.packets++ % 2 === 0) {
			const first = { ...input, hook: Hook.FROM_WIRE_XDP };
			const { decision, differences } = await check(dataPath, node.tables, first);
			assert.deepEqual(differences, [], JSON.stringify(["XDP", what]));
			if (decision.action !== Action.PASS) return decision;
		}
		const { decision, differences } = await check(dataPath, node.tables, input);
		assert.deepEqual(differences, [], JSON.stringify(what));
		counts.packets++;
		return decision;
	};

	/** Of the directions that were asked. */
	const verdictsIn = (node: PolicyNode, { policy }: Decision): Verdicts => {
		const textOf = (direction: Direction) => {
			const one = policy?.[direction];
			if (one === undefined) return undefined;
			const reason = DropReasonName[one.dropReason];
			return node.site.textOf(one.judgement ?? (reason as "policy_not_ready"));
		};
		return { egress: textOf("egress"), ingress: textOf("ingress") };
	};

	/** A flow's first packet has the interpreter's verdicts. Undefined: its Service has no backend for it. */
	const first = async (node: PolicyNode, attempt: Attempt, way: Way, port: number) => {
		const key = keyOf(attempt, port);
		const decision = await run(node, node.input(key, way), [node.site.nodeName, way, attempt]);
		const flow = judgedFlow(attempt, decision);
		const name = attempt.service === undefined ? way : `Service ${way}`;
		const count = (fate: string) =>
			seen.set(`${name} ${fate}`, (seen.get(`${name} ${fate}`) ?? 0) + 1);
		if (flow === undefined) {
			assert.equal(decision.policy, undefined);
			count("without backend");
			return undefined;
		}
		const what = JSON.stringify([node.site.nodeName, way, attempt, flow]);
		const wanted = node.site.expected(flow);
		const fate = fateOf(wanted);
		assert.equal(fateIn(decision), fate, what);
		const said = verdictsIn(node, decision);
		// After an egress that is not allowed nobody asks for ingress.
		const isOver = fateOf({ ...wanted, ingress: undefined }) !== "passes";
		const asked = isOver ? { ...wanted, ingress: undefined } : wanted;
		assert.deepEqual(said, asked, what);
		const told = explained(node, flow);
		for (const direction of ["egress", "ingress"] as const) {
			const [now] = asked[direction]?.split(", staged") ?? [];
			// A policy that cannot be used closes the Pod; explain names it.
			const text =
				now === "closed" ? told[direction].replace(/^deny .*/, "closed") : told[direction];
			if (now !== undefined) assert.equal(text, now, what);
		}
		count(fate);
		return { decision, fate, flow, key };
	};

	const tell = async (told: ServedStory) => {
		const objects = new Objects();
		let port = 1024;
		const nodes = NODES.map(
			(name) => new PolicyNode(name, objects, dataPath, FLOW_SLOTS, told.services),
		);
		const [here, ...others] = nodes as [PolicyNode, ...PolicyNode[]];
		for (const change of told.start) objects.apply(change);
		for (const node of [...others, here]) {
			for (const write of node.site.compileAll().writes) node.apply(write);
			// What another Node has seen is not this one's.
			await dataPath.forget();
			node.enter();
			for (const attempt of attemptsOf(told, node.addresses)) {
				const way = node.wayOf(attempt, port % 3 > 0);
				if (way) await first(node, attempt, way, port++);
			}
			if (node !== here) node.leave();
		}

		let running: Running[] = [];
		for (const attempt of attemptsOf(told, here.addresses)) {
			const way = here.wayOf(attempt, port % 3 > 0);
			if (way === undefined || way === "own") continue;
			const begun = await first(here, attempt, way, port++);
			if (begun?.fate !== "passes" || !begun.decision.flow) continue;
			const { flow, key, fate } = begun;
			running.push({ attempt, key, flow, way, fate, place: here.placeOf(flow.destination) });
		}

		for (const change of told.changes) {
			const attempts = attemptsOf(told, here.addresses);
			const flows = attempts.flatMap((attempt) => attempt.flows);
			const before = new Map(flows.map((flow) => [flow, stateOf(here, flow)]));
			const clusterBefore = here.site.objects.cluster();
			const { writes, epochs } = here.site.compile([change]);
			const proposal = differOf(change, clusterBefore, here.site.objects.cluster());
			const observed: { flow: Flow; said: Verdicts }[] = [];
			for (const write of writes) {
				here.apply(write);
				counts.writes++;
				const attempt = attempts[port % attempts.length];
				const way = attempt && here.wayOf(attempt, port % 3 > 0);
				if (way === undefined || way === "own") continue;
				const input = here.input(keyOf(attempt!, port++), way);
				const decision = await run(here, input, [write, attempt]);
				const flow = judgedFlow(attempt!, decision);
				if (flow) observed.push({ flow, said: verdictsIn(here, decision) });
			}
			here.raise(epochs, here.setRoutes());
			for (const { flow, said } of observed) {
				const was = before.get(flow)!;
				const now = stateOf(here, flow);
				if (now.owners.every((owner, end) => owner !== was.owners[end])) continue;
				if (now.isHairpin !== was.isHairpin) continue;
				for (const direction of ["egress", "ingress"] as const) {
					const possible = [was.verdicts[direction], now.verdicts[direction]];
					if (possible.includes(undefined) || said[direction] === undefined) continue;
					const what = JSON.stringify([direction, flow, change]);
					assert.ok(
						possible.includes(said[direction]),
						`${what}: ${said[direction]}, of ${possible}`,
					);
				}
			}

			// Somebody else is there, or it comes from elsewhere: this flow is no more.
			const isStill = ({ attempt, way, flow, place }: Running) =>
				here.wayOf(attempt, way !== "forwarded" && way !== "routed") === way &&
				(attempt.service === undefined ||
					(here.addresses.length > 0 && here.placeOf(flow.destination) === place));
			for (const one of running) {
				if (!isStill(one)) continue;
				const { attempt, key, way } = one;
				const turns = key.sourcePort % 2 === 0 ? [false, true] : [true, false];
				const fate = fateOf(here.site.expected(one.flow));
				for (const isAnswer of turns) {
					const answer = isAnswer ? here.answerOf(key) : undefined;
					if (isAnswer && answer === undefined) continue;
					const input = answer ? here.input(answer.key, answer.way, true) : here.input(key, way);
					const what = JSON.stringify([isAnswer ? "answer" : "again", way, attempt, change]);
					const decision = await run(here, input, what);
					assert.equal(fateIn(decision), fate, what);
					counts[isAnswer ? "answers" : "running"]++;
					if (attempt.service !== undefined) counts.served++;
					if (fate !== "passes") counts.cut++;
				}
				// A Pod that is closed because a policy cannot be used is not compared.
				const isClosed = [one.fate, fate].includes("policy_not_ready");
				if (proposal !== undefined && !isClosed && !isJudgedElsewhere(here, one.flow)) {
					const became = becameOf(one.fate, fate);
					assert.equal(
						proposal(one.flow),
						became,
						JSON.stringify(["policy diff", one.flow, change]),
					);
					diffs.proposed++;
					if (became !== "same") diffs[became]++;
				}
				one.fate = fate;
			}
			running = running.filter(isStill);
			for (const attempt of attemptsOf(told, here.addresses)) {
				const way = here.wayOf(attempt, port % 3 > 0);
				if (way) await first(here, attempt, way, port++);
			}
		}
		here.leave();
	};

	t.test(`${PACKETS} packets of seed ${seed}`, async (t) => {
		for (let round = 0; counts.packets < PACKETS; round++)
			await fc.assert(fc.asyncProperty(servedStory, tell), {
				numRuns: STORIES,
				// Runs of neighbouring seeds have no story in common.
				seed: (seed + Math.imul(round, 0x9e3779b1)) | 0,
				endOnFailure: !SHRINKS,
			});
		t.comment(JSON.stringify({ ...counts, ...diffs, ...Object.fromEntries(seen) }));
		for (const way of ["pod", "wire", "forwarded"])
			for (const fate of ["passes", "policy_ingress"])
				t.ok(seen.has(`${way} ${fate}`), `${way}: some ${fate}`);
		const isClosed = (kind: string) => kind.endsWith(" policy_not_ready");
		t.ok([...seen.keys()].some(isClosed), "Pods that are closed");
		t.ok(seen.has("pod policy_egress"), "some policy_egress");
		t.ok(seen.has("own passes"), "the Node's own packets");
		for (const way of ["pod", "wire", "routed"])
			for (const fate of ["passes", "policy_ingress"])
				t.ok(seen.has(`Service ${way} ${fate}`), `a Service, ${way}: some ${fate}`);
		t.ok(seen.has("Service pod policy_egress"), "a Service, pod: some policy_egress");
		t.ok(seen.has("Service process passes"), "a Service, the Node's own packets");
		t.ok(diffs.closed > 0, "policy diff said what was cut");
		t.ok(
			counts.cut > 0 && counts.answers > 0 && counts.writes > 0 && counts.served > 0,
			"flows were judged anew",
		);
	});
}

type Became = "opened" | "closed" | "same";

/** What `policy diff` says of a live flow before policies change; undefined: something else changes. */
function differOf(
	{ kind }: Change,
	before: Cluster,
	after: Cluster,
): ((flow: Flow) => Became) | undefined {
	if (kind !== "NetworkPolicy" && kind !== "ClusterNetworkPolicy") return undefined;
	const differ = atOnce(PolicyDiffer.of(before, before, after));
	return (flow) => {
		const { opened, closed } = differ.result().flows;
		differ.count(flow);
		const now = differ.result().flows;
		return now.opened > opened ? "opened" : now.closed > closed ? "closed" : "same";
	};
}

function becameOf(before: string, now: string): Became {
	if ((before === "passes") === (now === "passes")) return "same";
	return now === "passes" ? "opened" : "closed";
}

/** Another Node has a part in what becomes of it. */
function isJudgedElsewhere({ site, tables }: PolicyNode, { source, destination }: Flow): boolean {
	const cluster = site.objects.cluster();
	return [source, destination].some(
		(address) => tables.endpoint(address) === undefined && podAt(cluster, address) !== undefined,
	);
}

/** What `explain` says of a flow, in the words of the tables. */
function explained({ site, tables }: PolicyNode, flow: Flow): Record<Direction, string> {
	const answer = policyAnswer(flow, {
		...{ cluster: site.objects.cluster(), nodeName: site.nodeName, tables },
		...{ nodeOf: () => undefined, atoms: () => undefined },
		rule: (id) => site.evaluator.tables.rules.get(id),
	});
	const textOf = ({ verdict, policy, rule }: ExplainPolicySide) =>
		verdict === "none" ? verdict : `${verdict} ${policy} ${rule}`;
	return { egress: textOf(answer.egress), ingress: textOf(answer.ingress) };
}

/** Who both ends are, and what the tables say of them. */
function stateOf({ site }: PolicyNode, flow: Flow) {
	const [owners, isHairpin] = [site.ownersOf(flow), site.isHairpin(flow)];
	return { owners, isHairpin, verdicts: site.verdicts(flow) };
}

/** From this port. */
function keyOf({ source, destination, protocol, port }: Attempt, sourcePort: number): FlowKey {
	return { source, destination, protocol, sourcePort, destinationPort: port };
}

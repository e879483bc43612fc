/**
 * The whole chain on random clusters: what the interpreter says of a flow is what becomes of its packets, by the
 * compiler's tables in the forwarder and in the eBPF programs. The source's Node judges in from_pod, the
 * destination's in from_wire or to_pod; running flows are judged again after each change. `explain` says the same.
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
import { DropReasonName, RouteKind } from "../../src/tables/generated.js";
import { type Change, Objects, type Story, story } from "../tools/policy_clusters.js";
import { check, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { addNeighbours, NODES, PolicyNode, type Way } from "./policy_node.js";
import { makeNetwork } from "./world.js";

const PACKETS = Number(process.env.POLICY_PACKETS ?? 10_000);
/** Makes a failing case small, which takes minutes. */
const SHRINKS = process.env.POLICY_SHRINK === "1";
const FLOW_SLOTS = 1024;
const STORIES = 20;

type Direction = "egress" | "ingress";
type Verdicts = Record<Direction, string | undefined>;

interface Running {
	flow: Flow;
	port: number;
	way: Way;
	/** After the last change. */
	fate: string;
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
	const counts = { packets: 0, writes: 0, running: 0, cut: 0, answers: 0 };
	const diffs = { proposed: 0, opened: 0, closed: 0 };
	const seen = new Map<string, number>();

	/** A packet through both, and what they say of it alike. */
	const run = async (node: PolicyNode, input: Input, what: unknown): Promise<Decision> => {
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

	/** A flow's first packet has the interpreter's verdicts. */
	const first = async (node: PolicyNode, flow: Flow, way: Way, port: number) => {
		const what = [node.site.nodeName, way, flow];
		const decision = await run(node, node.input(flow, port, way), what);
		const wanted = node.site.expected(flow);
		const fate = fateOf(wanted);
		assert.equal(fateIn(decision), fate, JSON.stringify(what));
		const said = verdictsIn(node, decision);
		// After an egress that is not allowed nobody asks for ingress.
		const isOver = fateOf({ ...wanted, ingress: undefined }) !== "passes";
		const asked = isOver ? { ...wanted, ingress: undefined } : wanted;
		assert.deepEqual(said, asked, JSON.stringify(what));
		const told = explained(node, flow);
		for (const direction of ["egress", "ingress"] as const) {
			const [now] = asked[direction]?.split(", staged") ?? [];
			// A policy that cannot be used closes the Pod; explain names it.
			const text =
				now === "closed" ? told[direction].replace(/^deny .*/, "closed") : told[direction];
			if (now !== undefined) assert.equal(text, now, JSON.stringify(what));
		}
		const kind = `${way} ${fate}`;
		seen.set(kind, (seen.get(kind) ?? 0) + 1);
		return { decision, fate };
	};

	const tell = async ({ start, changes, flows: told }: Story) => {
		await dataPath.forget();
		const objects = new Objects();
		const flows = told.filter(
			({ source, destination: to }) => to.includes(":") === source.includes(":"),
		);
		let port = 1024;
		const nodes = NODES.map((name) => new PolicyNode(name, objects, dataPath, FLOW_SLOTS));
		const [here, ...others] = nodes as [PolicyNode, ...PolicyNode[]];
		for (const change of start) objects.apply(change);
		for (const node of [...others, here]) {
			for (const write of node.site.compileAll().writes) node.apply(write);
			node.enter();
			for (const flow of flows) {
				const way = node.wayOf(flow, port % 3 > 0);
				if (way) await first(node, flow, way, port++);
			}
			if (node !== here) node.leave();
		}

		let running: Running[] = [];
		for (const flow of flows) {
			const way = here.wayOf(flow, port % 3 > 0);
			if (way === undefined || way === "own") continue;
			const { fate, decision } = await first(here, flow, way, port);
			if (fate === "passes" && decision.flow) running.push({ flow, port, way, fate });
			port++;
		}

		for (const change of changes) {
			const owners = flows.map((flow) => here.site.ownersOf(flow));
			const hairpins = flows.map((flow) => here.site.isHairpin(flow));
			const before = flows.map((flow) => here.site.verdicts(flow));
			const clusterBefore = here.site.objects.cluster();
			const { writes, epochs } = here.site.compile([change]);
			const proposal = differOf(change, clusterBefore, here.site.objects.cluster());
			const observed: { place: number; said: Verdicts }[] = [];
			for (const write of writes) {
				here.apply(write);
				counts.writes++;
				const place = port % flows.length;
				const way = flows[place] && here.wayOf(flows[place], port % 3 > 0);
				if (way === undefined || way === "own") continue;
				const input = here.input(flows[place]!, port++, way);
				const decision = await run(here, input, [write, flows[place]]);
				observed.push({ place, said: verdictsIn(here, decision) });
			}
			here.raise(epochs, here.setRoutes());
			for (const { place, said } of observed) {
				const flow = flows[place]!;
				const now = here.site.verdicts(flow);
				const owned = here.site.ownersOf(flow);
				if (owned.every((owner, end) => owner !== owners[place]![end])) continue;
				if (here.site.isHairpin(flow) !== hairpins[place]) continue;
				for (const direction of ["egress", "ingress"] as const) {
					const possible = [before[place]![direction], now[direction]];
					if (possible.includes(undefined) || said[direction] === undefined) continue;
					const what = JSON.stringify([direction, flow, change]);
					assert.ok(
						possible.includes(said[direction]),
						`${what}: ${said[direction]}, of ${possible}`,
					);
				}
			}

			for (const one of running) {
				const { flow, way } = one;
				const wayNow = here.wayOf(flow, way !== "forwarded");
				// Somebody else is there, or it comes from elsewhere: this flow is no more.
				if (wayNow !== way) continue;
				const fate = fateOf(here.site.expected(flow));
				const answers = answerWay(here, flow);
				const turns = one.port % 2 === 0 ? [false, true] : [true, false];
				for (const isAnswer of turns) {
					if (isAnswer && answers === undefined) continue;
					const input = here.input(flow, one.port, isAnswer ? answers! : way, isAnswer);
					const what = [isAnswer ? "answer" : "again", way, flow, change];
					const decision = await run(here, input, what);
					assert.equal(fateIn(decision), fate, JSON.stringify(what));
					counts[isAnswer ? "answers" : "running"]++;
					if (fate !== "passes") counts.cut++;
				}
				// A Pod that is closed because a policy cannot be used is not compared.
				const isClosed = [one.fate, fate].includes("policy_not_ready");
				if (proposal !== undefined && !isClosed && !isJudgedElsewhere(here, flow)) {
					const became = becameOf(one.fate, fate);
					assert.equal(proposal(flow), became, JSON.stringify(["policy diff", flow, change]));
					diffs.proposed++;
					if (became !== "same") diffs[became]++;
				}
				one.fate = fate;
			}
			for (const flow of flows) {
				const way = here.wayOf(flow, port % 3 > 0);
				if (way) await first(here, flow, way, port++);
			}
			running = running.filter(({ flow, way }) => here.wayOf(flow, way !== "forwarded") === way);
		}
		here.leave();
	};

	t.test(`${PACKETS} packets of seed ${seed}`, async (t) => {
		for (let round = 0; counts.packets < PACKETS; round++)
			await fc.assert(fc.asyncProperty(story, tell), {
				numRuns: STORIES,
				seed: seed + round,
				endOnFailure: !SHRINKS,
			});
		t.comment(JSON.stringify({ ...counts, ...diffs, ...Object.fromEntries(seen) }));
		for (const way of ["pod", "wire", "forwarded"])
			for (const fate of ["passes", "policy_ingress", "policy_not_ready"])
				t.ok(seen.has(`${way} ${fate}`), `${way}: some ${fate}`);
		t.ok(seen.has("pod policy_egress"), "some policy_egress");
		t.ok(seen.has("own passes"), "the Node's own packets");
		t.ok(diffs.closed > 0, "policy diff said what was cut");
		t.ok(counts.cut > 0 && counts.answers > 0 && counts.writes > 0, "flows were judged anew");
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

/** How a flow's answers come in; undefined: there are none. */
function answerWay(node: PolicyNode, { source, destination }: Flow): Way | undefined {
	const { tables } = node;
	if (tables.endpoint(destination)) return "pod";
	const kind = tables.route(destination)?.kind ?? RouteKind.OUTSIDE;
	if (!tables.endpoint(source) || kind === RouteKind.LOCAL_PODS) return undefined;
	return kind === RouteKind.HOST ? "own" : "wire";
}

/**
 * Who is in the cluster, when several say it: a Node that is in stays in, and nobody takes its pod
 * CIDRs or addresses from it. Pure but for its memory of who was there first.
 *
 *  1. one candidate a name: from the file that has it already, else from the first to name it
 *  2. those that say what they said before (or nothing that can be understood)
 *  3. those that say something new; where that is refused, what they said before stays
 *  4. newcomers, in the order in which they came
 */
import { isDeepStrictEqual } from "node:util";
import { PrefixTable } from "../tables/prefix.js";
import { type NodeReading, podPrefixes } from "./node_object.js";
import type { NodeObject, Problem } from "./snapshot.js";

/** A Node object and the file that it stands in. */
export interface Candidate {
	file: string;
	reading: NodeReading;
}

interface Member {
	node: NodeObject;
	file: string;
}

type Refuse = (from: { file: string }, name: string, why: string, stays: boolean) => void;

const STAYS = "what it said before stays in force";

export class NodeRegistry {
	#members = new Map<string, Member>();
	/** Key of a candidate → when it came. */
	#arrivals = new Map<string, number>();
	#clock = 0;

	/** `candidates` are all there are now, in the order in which newcomers count as having come. */
	update(candidates: readonly Candidate[]): {
		nodes: Map<string, NodeObject>;
		problems: Problem[];
	} {
		const problems: Problem[] = [];
		const refuse: Refuse = ({ file }, name, why, stays) =>
			problems.push({
				file,
				message: `Cannot accept Node ${name}: ${why}${stays ? `; ${STAYS}` : ""}`,
			});
		const byName = this.#arrive(candidates, refuse);
		const claims = new Claims();
		const members = new Map<string, Member>();
		const admit = (member: Member) => {
			claims.add(member.node);
			members.set(member.node.name, member);
		};
		const changed: [Member, Candidate][] = [];
		const refused = new Set<Candidate>();
		for (const [name, member] of this.#members) {
			const candidate = this.#choose(byName.get(name) ?? [], member.file);
			if (candidate === undefined || "skipped" in candidate.reading) continue;
			const { reading, file } = candidate;
			if ("fault" in reading) {
				if (file !== member.file) continue;
				refuse(candidate, name, reading.fault, true);
				admit(member);
			} else if (isDeepStrictEqual(reading.node, member.node)) {
				admit({ node: member.node, file });
			} else changed.push([member, candidate]);
		}
		for (const [member, candidate] of changed) {
			const { file, reading } = candidate;
			if (!("node" in reading)) continue;
			const conflict = claims.conflict(reading.node);
			if (conflict === undefined) admit({ node: reading.node, file });
			else {
				const stays = file === member.file && claims.conflict(member.node) === undefined;
				refuse({ file }, member.node.name, conflict, stays);
				if (stays) admit(member);
				else refused.add(candidate);
			}
		}
		for (const [name, list] of byName) {
			const holder = members.get(name);
			for (const candidate of list) {
				const { file, reading } = candidate;
				const taken = members.get(name);
				if (taken !== undefined && taken.file !== file)
					refuse({ file }, name, `expected it once, ${taken.file} has it already`, false);
				else if (holder !== undefined || refused.has(candidate)) continue;
				else if ("skipped" in reading) refuse({ file }, name, reading.skipped, false);
				else if ("fault" in reading) refuse({ file }, name, reading.fault, false);
				else {
					const conflict = claims.conflict(reading.node);
					if (conflict === undefined) admit({ node: reading.node, file });
					else refuse({ file }, name, conflict, false);
				}
			}
		}
		this.#members = members;
		const nodes = new Map(
			[...members.keys()].sort().map((name) => [name, members.get(name)!.node] as const),
		);
		return { nodes, problems };
	}

	/** Candidates by name, within a name and among names the earliest first. */
	#arrive(candidates: readonly Candidate[], refuse: Refuse): Map<string, Candidate[]> {
		const arrivals = new Map<string, number>();
		const present = new Map<string, Candidate>();
		for (const candidate of candidates) {
			const name = nameOf(candidate.reading);
			const key = `${candidate.file}\0${name}`;
			if (name === "" && "fault" in candidate.reading) {
				refuse(candidate, "without a usable name", candidate.reading.fault, false);
				continue;
			}
			if (present.has(key)) {
				refuse(
					candidate,
					name,
					"expected it once, this file has it twice; the first counts",
					false,
				);
				continue;
			}
			present.set(key, candidate);
			arrivals.set(key, this.#arrivals.get(key) ?? ++this.#clock);
		}
		this.#arrivals = arrivals;
		const byName = new Map<string, Candidate[]>();
		for (const [key] of [...arrivals].sort((a, b) => a[1] - b[1])) {
			const candidate = present.get(key)!;
			const name = nameOf(candidate.reading);
			const list = byName.get(name);
			if (list === undefined) byName.set(name, [candidate]);
			else list.push(candidate);
		}
		return byName;
	}

	#choose(list: readonly Candidate[], file: string): Candidate | undefined {
		return list.find((candidate) => candidate.file === file) ?? list[0];
	}
}

function nameOf(reading: NodeReading): string {
	return "node" in reading ? reading.node.name : reading.name;
}

/** The pod CIDRs and addresses that are someone's. */
class Claims {
	readonly #cidrs = new PrefixTable<{ name: string; text: string }>();
	readonly #addresses = new Map<string, string>();

	add(node: NodeObject): void {
		for (const prefix of podPrefixes(node))
			this.#cidrs.set(prefix, { name: node.name, text: prefix.text });
		for (const address of addressesOf(node)) this.#addresses.set(address, node.name);
	}

	/** Why a Node cannot be in as well. */
	conflict(node: NodeObject): string | undefined {
		for (const prefix of podPrefixes(node)) {
			const other = this.#cidrs.overlapping(prefix);
			if (other !== undefined)
				return `expected pod CIDRs of its own, ${prefix.text} overlaps ${other.text} of Node ${other.name}`;
		}
		for (const address of addressesOf(node)) {
			const other = this.#addresses.get(address);
			if (other !== undefined)
				return `expected addresses of its own, ${address} is an address of Node ${other}`;
		}
		return undefined;
	}
}

function addressesOf(node: NodeObject): Set<string> {
	return new Set([...node.internalIPs, ...node.transportAddresses]);
}

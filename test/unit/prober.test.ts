/** The prober with a clock, a network and a ring of paper. */
import { mock } from "node:test";
import t from "tap";
import type { ProbedPeer } from "../../src/compile/compile.js";
import type { Config } from "../../src/config/config.js";
import { parseConfig } from "../../src/config/parse.js";
import { Prober, type ProberOptions } from "../../src/probe/prober.js";
import { deduce } from "../../src/probe/survey/survey.js";
import { Probe, ProbeEvent, ProbeRecord, ProbeWay } from "../../src/tables/generated.js";
import { choice } from "../tools/paper_peer.js";

function config(text = "trafficEncapMode: hybrid"): Config {
	const result = parseConfig(text, "");
	if ("errors" in result) throw new Error("the test's own configuration is wrong");
	return result.config;
}

function probedPeer(number: number, change: Partial<ProbedPeer> = {}): ProbedPeer {
	return {
		...{ index: number * 2, node: `n${number}`, family: 4, candidate: true },
		...{ source: "10.244.255.1", destination: `10.244.${number}.1` },
		...{ direct: choice("direct", 1500), tunnel: choice("geneve", 1450) },
		lacks: { direct: "", tunnel: "" },
		...change,
	};
}

interface Sent {
	at: number;
	/** Of the peer: the third number of its address. */
	number: number;
	probe: Probe;
	length: number;
}

class Stage {
	now = 1_000_000;
	readonly sent: Sent[] = [];
	changes = 0;
	/** Does the peer answer? */
	answers: (sent: Sent) => boolean = () => true;
	totals: (index: number) => { sent: number; received: number } = () => ({ sent: 0, received: 0 });
	readonly totalsRead: number[] = [];
	readonly prober: Prober;

	constructor(options: Partial<ProberOptions> = {}, settings = config()) {
		this.prober = new Prober(settings.probes, {
			send: (packet) => this.#send(packet),
			totals: (index) => {
				this.totalsRead.push(index);
				return this.totals(index);
			},
			adopted: new Map(),
			holds: {},
			onChange: () => this.changes++,
			clock: () => this.now,
			...options,
		});
	}

	run(ms: number): void {
		for (const until = this.now + ms; this.now < until; ) {
			this.now++;
			mock.timers.tick(1);
		}
	}

	tell(sent: Pick<Sent, "number" | "probe">, change: Partial<ProbeRecord> = {}): void {
		const { sequence, wayThere, wayBack, length, answerLength } = sent.probe;
		this.prober.take(
			ProbeRecord.encode({
				...{ event: ProbeEvent.ANSWERED, wayThere, wayBack, index: sent.number * 2 },
				...{ announced: 0, sequence, length, answerLength, sentAt: 0n, roundTrip: 250_000n },
				...{ sentPackets: 0, sentLarge: 0, receivedPackets: 0, receivedLarge: 0 },
				...change,
			}),
		);
	}

	event(event: ProbeEvent, number: number): void {
		this.tell({ number, probe: Probe.decode(Buffer.alloc(Probe.size)) }, { event });
	}

	to(number: number): Sent[] {
		return this.sent.filter((sent) => sent.number === number);
	}

	#send(packet: Buffer): void {
		const probe = Probe.decode(packet.subarray(28));
		const sent = { at: this.now, number: packet[18] ?? 0, probe, length: packet.length };
		this.sent.push(sent);
		if (this.answers(sent)) setTimeout(() => this.tell(sent), 1);
	}
}

function stage(
	t: { teardown(act: () => void): void },
	options: Partial<ProberOptions> = {},
	settings?: Config,
): Stage {
	mock.timers.enable({ apis: ["setTimeout", "setImmediate"] });
	const made = new Stage(options, settings);
	t.teardown(() => {
		made.prober.close();
		mock.timers.reset();
	});
	return made;
}

const overDirect = ({ probe }: Sent) =>
	probe.wayThere === ProbeWay.DIRECT || probe.wayBack === ProbeWay.DIRECT;

t.test("a new peer is probed only when the kernel has its entries and routes", async (t) => {
	const s = stage(t);
	s.prober.configure([probedPeer(2)], config());
	s.prober.start();
	s.run(1000);
	s.prober.configure([probedPeer(2), probedPeer(3)], config());
	s.run(3000);
	t.equal(s.to(3).length, 0, "its apply is still running");
	s.prober.start();
	s.run(3000);
	t.match(s.prober.get(6), { use: "direct" });
});

t.test("no probe before the start; then everything is proven", async (t) => {
	const s = stage(t);
	t.equal(s.prober.configure([probedPeer(2), probedPeer(3)], config()), true);
	t.match(s.prober.get(4), { use: "tunnel", directMtu: 0 });
	t.equal(s.prober.get(99), undefined);
	s.run(3000);
	t.equal(s.sent.length, 0);
	s.prober.start();
	s.run(3000);
	for (const number of [2, 3]) {
		t.match(s.prober.get(number * 2), { use: "direct", directMtu: 1500, tunnelMtu: 1450 });
		t.match(s.prober.facts(number * 2), {
			...{ words: /^direct: \d+ of \d+ probes answered, 1500 bytes/, proof: /^\d+ of \d+/ },
			...{ roundTripMs: 0.25, loss: 0 },
			probes: { sent: s.to(number).length, answered: s.to(number).length, late: 0 },
		});
	}
	t.equal(s.prober.facts(99), undefined);
	t.same(s.prober.counters, { sent: s.sent.length, answered: s.sent.length, late: 0 });
	t.ok(s.changes >= 1 && s.changes < 12, `${s.changes} changes`);
	const verdict = s.prober.get(4);
	const asked = s.sent.length;
	s.event(ProbeEvent.TRAFFIC, 2);
	s.run(10_000);
	t.ok(s.sent.length > asked);
	t.equal(s.prober.get(4), verdict, "the same object for as long as it says the same");
});

t.test("a verdict has words where probes decide, and thousands share one without", async (t) => {
	const s = stage(t);
	s.prober.configure([probedPeer(2), probedPeer(3)], config("trafficEncapMode: encap"));
	t.equal(s.prober.get(4)?.words, "");
	t.equal(s.prober.get(4), s.prober.get(6), "one object");
	t.equal(s.prober.configure([probedPeer(2), probedPeer(3)], config()), true);
	t.match(s.prober.get(4), { use: "tunnel", words: /^geneve: n2 has answered no probe yet/ });
	t.match(s.prober.get(6), { use: "tunnel", words: /^geneve: n3 has answered no probe yet/ });
	s.answers = () => false;
	s.prober.configure([probedPeer(2)], config("trafficEncapMode: encap"));
	t.equal(s.prober.configure([probedPeer(2)], config()), false, "what it says stays true");
});

t.test("peers are added, removed and replaced", async (t) => {
	const s = stage(t);
	const [two, three] = [probedPeer(2), probedPeer(3)];
	s.prober.configure([two, three], config());
	s.prober.start();
	s.run(3000);
	t.equal(s.prober.configure([two, three], config()), false, "nothing new");
	t.equal(
		s.prober.configure(
			[probedPeer(2, { direct: two.direct, tunnel: two.tunnel }), three],
			config(),
		),
		false,
	);
	t.equal(s.prober.configure([two], config()), false, "who goes changes no verdict");
	t.equal(s.prober.get(6), undefined);
	const asked = s.to(3).length;
	s.event(ProbeEvent.GREETED, 3);
	s.run(5000);
	t.equal(s.to(3).length, asked, "is not asked any more");
	t.equal(s.prober.configure([two, three], config()), true);
	t.match(s.prober.get(6), { use: "tunnel" }, "and begins without proof");
	s.prober.start();
	s.run(3000);
	t.match(s.prober.get(6), { use: "direct" });
	const renamed = probedPeer(2, { node: "n77" });
	t.equal(s.prober.configure([renamed, three], config()), true);
	t.match(s.prober.get(4), { use: "tunnel" }, "another Node with the same index");
	s.run(3000);
	const narrower = probedPeer(3, { direct: choice("direct", 1400) });
	t.equal(s.prober.configure([renamed, narrower], config()), true);
	t.match(s.prober.get(6), { use: "tunnel" }, "another path");
	s.run(3000);
	t.match(s.prober.get(6), { use: "direct", directMtu: 1400 });
	t.equal(s.prober.configure([renamed, narrower], config("trafficEncapMode: encap")), true);
	t.match(s.prober.get(6), { use: "tunnel" });
	t.match(s.prober.facts(6), { words: undefined, proof: /probes answered/ });
	t.equal(s.prober.configure([renamed, narrower], config("trafficEncapMode: noEncap")), true);
	t.match(s.prober.get(6), { use: "direct" });
	const { length } = s.sent;
	s.event(ProbeEvent.GREETED, 3);
	s.run(2000);
	t.ok(s.sent.slice(length).every(({ probe }) => probe.wayThere === ProbeWay.DIRECT));
});

t.test("foreign, stale and duplicate records", async (t) => {
	const s = stage(t);
	s.prober.configure([probedPeer(2)], config());
	s.prober.start();
	s.run(3000);
	const { counters } = s.prober;
	const before = { ...counters };
	const verdict = s.prober.get(4);
	const [first] = s.sent;
	if (first === undefined) throw new Error("nothing was asked");
	s.tell(first);
	s.tell(first, { sequence: 12345 });
	s.tell({ ...first, number: 9 });
	s.tell(first, { event: 200 });
	s.tell(first, { sequence: 0xffffffff });
	// A survey's counts, whoever asked for it.
	t.same(counters, { ...before, answered: before.answered + 1 });
	t.equal(s.prober.get(4), verdict);
	s.answers = () => false;
	s.event(ProbeEvent.TRAFFIC, 2);
	s.run(500);
	const last = s.sent.at(-2);
	if (last === undefined) throw new Error("nothing was asked");
	s.run(600);
	s.tell(last);
	t.equal(counters.late, 1, "a late one");
	s.tell(last);
	t.equal(counters.late, 1, "once");
});

t.test("state of an earlier agent", async (t) => {
	const adopted = new Map([
		[4, { direct: true, flags: 0, mtu: 1500, answeredAgo: 1000, largeAnsweredAgo: 60_000 }],
		[6, { direct: true, flags: 0, mtu: 1500, answeredAgo: 301_000, largeAnsweredAgo: 301_000 }],
		[
			8,
			{
				direct: true,
				flags: 0,
				mtu: 9000,
				answeredAgo: 1000,
				largeAnsweredAgo: Number.POSITIVE_INFINITY,
			},
		],
		[10, { direct: true, flags: 0, mtu: 1500, answeredAgo: 0, largeAnsweredAgo: 0 }],
	]);
	const holds = { "n5/4": 40_000, "n6/4": 1e9, "n6/6": 20_000 };
	const s = stage(t, { adopted, holds });
	s.answers = ({ number }) => number !== 2;
	const peers = [2, 3, 4, 5, 6].map((number) =>
		probedPeer(number, number === 5 ? { candidate: false } : {}),
	);
	s.prober.configure(peers, config());
	t.match(s.prober.get(4), { use: "direct", directMtu: 1500 });
	t.match(s.prober.get(6), { use: "tunnel" }, "too long ago");
	t.match(s.prober.get(8), { use: "direct", directMtu: 1500 }, "at most its size");
	t.match(s.prober.get(10), { use: "tunnel" }, "not to be taken now");
	t.same(s.prober.holds(), { "n5/4": 40_000, "n6/4": 300_000 }, "within what is configured");
	s.prober.start();
	s.run(1);
	s.event(ProbeEvent.TRAFFIC, 2);
	s.run(4000);
	t.match(s.prober.get(4), { use: "tunnel" }, "it does not answer any more");
	t.match(s.prober.get(8), { use: "direct" });
	t.match(s.prober.get(12), { use: "tunnel" }, "held back");
});

t.test("traffic from before the agent started", async (t) => {
	const adopted = new Map([
		[4, { direct: true, flags: 0, mtu: 1500, answeredAgo: 1000, largeAnsweredAgo: 1000 }],
	]);
	const s = stage(t, { adopted });
	// One packet a second: not often enough to show in the counts of two requests.
	s.totals = () => ({ sent: Math.floor(s.now / 1000), received: 5 });
	s.prober.configure([probedPeer(2)], config());
	s.prober.start();
	s.run(30_000);
	t.match(s.prober.get(4), { use: "direct" });
	s.answers = (sent) => !overDirect(sent);
	s.run(1000);
	t.match(s.prober.get(4), { use: "tunnel" }, "is watched");
});

t.test("a failed path and its hold time", async (t) => {
	const s = stage(t);
	let packets = 100;
	s.totals = () => ({ sent: packets++, received: packets });
	s.prober.configure([probedPeer(2)], config());
	s.prober.start();
	s.run(3000);
	t.same(s.prober.holds(), {});
	s.answers = (sent) => !overDirect(sent);
	const changes = s.changes;
	s.run(1000);
	t.match(s.prober.get(4), { use: "tunnel" });
	t.match(s.prober.get(4)?.words, /^geneve: /);
	t.ok(s.changes > changes);
	t.same(s.prober.holds(), { "n2/4": 5000 });
	s.run(30_000);
	t.ok(
		s.totalsRead.length >= 28 && s.totalsRead.length <= 40,
		`${s.totalsRead.length} times in 34 s`,
	);
	const read = s.totalsRead.length;
	s.totals = () => ({ sent: 7, received: 7 });
	s.run(60_000);
	t.ok(s.totalsRead.length - read < 12, "seldom without traffic");
});

t.test("probes of many peers are spread and limited", async (t) => {
	const s = stage(t);
	s.answers = () => false;
	const many = Array.from({ length: 5000 }, (_, i) =>
		probedPeer((i % 250) + 1, { index: i, node: `m${i}` }),
	);
	s.prober.configure(many, config());
	s.prober.start();
	const from = s.now;
	s.run(4000);
	const each = (ms: number) =>
		s.sent.filter(({ at }) => at >= from + ms && at < from + ms + 1000).length;
	for (const ms of [0, 1000, 2000, 3000]) t.ok(each(ms) <= 3000 + 550, `${each(ms)} in a second`);
	const first = s.sent.filter(({ at }) => at < from + 10).length;
	t.ok(first < 100, `${first} at once`);
	t.ok(s.sent.length > 6000, "everybody's turn comes");
	t.equal(new Set(s.sent.map(({ probe }) => probe.sequence)).size > 4000, true);
	s.prober.close();
	const { length } = s.sent;
	s.run(1000);
	t.equal(s.sent.length, length, "closed");
});

t.test("a survey probes every combination in any mode", async (t) => {
	const s = stage(t, {}, config("trafficEncapMode: encap"));
	s.answers = ({ probe }) => probe.wayThere !== ProbeWay.DIRECT;
	const alone = probedPeer(3, { direct: undefined, lacks: { direct: "no way", tunnel: "" } });
	s.prober.configure([probedPeer(2), alone], config("trafficEncapMode: encap"));
	s.prober.start();
	const asking = s.prober.survey();
	s.run(1500);
	const surveys = await asking;
	t.same(
		surveys.map(({ node, cells }) => [node, cells.length]),
		[
			["n2", 8],
			["n3", 2],
		],
	);
	t.match(surveys[1], {
		direct: { none: "no way" },
		tunnel: { kind: "geneve", mtu: 1450 },
		answers: true,
	});
	const [survey] = surveys;
	if (survey === undefined) throw new Error("nothing came");
	t.ok(survey.cells.every(({ asked }) => asked === 5));
	t.match(deduce(survey), {
		direct: {
			state: "fails",
			there: { small: { finding: "fails" } },
			back: { small: { finding: "works" } },
		},
		tunnel: { state: "works", roundTripMs: 0.25 },
	});
	const one = s.prober.survey(["n3"]);
	s.run(1500);
	t.same(
		(await one).map(({ node }) => node),
		["n3"],
	);
	t.same(await s.prober.survey(["n9"]), []);
});

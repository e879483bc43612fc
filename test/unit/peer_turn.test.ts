/**
 * What becomes of a peer's paths: scenarios in a network on paper (tools/paper_peer.ts), then
 * properties of any network and any events.
 */
import t from "tap";
import { paceOf } from "../../src/probe/pace.js";
import type { Policy } from "../../src/probe/peer/peer_state.js";
import type { Way } from "../../src/probe/request.js";
import {
	BUSY,
	choice,
	type End,
	HYBRID,
	IDLE,
	PACE,
	PaperPeer,
	randomOf,
	SMALL,
	type Wire,
} from "../tools/paper_peer.js";

type Passes = Wire["passes"];

const always: Passes = () => true;
const busy = (passes: Passes, more: Partial<Wire> = {}): Wire => ({
	passes,
	traffic: BUSY,
	...more,
});

/** The direct path is dead in these times. */
function dead(...times: [from: number, to: number][]): Passes {
	return (way, _end, _length, now) =>
		way !== "direct" || !times.some(([from, to]) => now >= from && now < to);
}

/** The direct path loses so many of a hundred there. */
function losing(
	percent: number,
	from: number,
	ways: readonly Way[] = ["direct"],
	seed = 9,
): Passes {
	const random = randomOf(seed);
	return (way, end, _length, now) =>
		now < from || end === "back" || !ways.includes(way) || random() * 100 >= percent;
}

/** The network carries IP packets of so many bytes; a tunnel's headers count. */
function narrow(limit: number, from = 0, ways: readonly Way[] = ["direct", "tunnel"]): Passes {
	return (way, _end, length, now) =>
		now < from || !ways.includes(way) || length + (way === "tunnel" ? 50 : 0) <= limit;
}

t.test("a working path is used within a second, at its full size", async (t) => {
	for (const seed of [1, 2, 3, 4, 5]) {
		const peer = new PaperPeer(busy(always), { seed }).run(60_000);
		t.ok(peer.first("direct") > 0 && peer.first("direct") < 1000, `${peer.first("direct")} ms`);
		t.equal(peer.uses(), "tunnel direct");
		t.equal(peer.state.direct.size, 1500);
		t.equal(peer.state.tunnel.size, 1450);
		t.match(peer.words(), /^direct: \d+ of \d+ probes answered, 1500 bytes, 0\.2\d ms\.$/);
		t.ok(peer.rate(30_000, 60_000) < 300, `${peer.rate(30_000, 60_000)} requests a minute`);
	}
	const slow = new PaperPeer(busy(always, { roundTrip: () => 180 })).run(5000);
	t.ok(slow.first("direct") > 0 && slow.first("direct") < 1500, "180 ms away");
});

t.test("both families, and a peer with only one path", async (t) => {
	const six: Policy = { ...HYBRID, family: 6, tunnel: choice("geneve", 1430) };
	const peer = new PaperPeer(busy(always), { policy: six }).run(5000);
	t.equal(peer.uses(), "tunnel direct");
	t.ok(peer.requests.every(({ length }) => length >= SMALL[6]));
	const without: Policy = { ...HYBRID, direct: undefined };
	t.equal(new PaperPeer(busy(always), { policy: without }).run(5000).uses(), "tunnel");
	const only: Policy = { ...HYBRID, tunnel: undefined };
	t.equal(new PaperPeer(busy(always), { policy: only }).run(5000).uses(), "tunnel direct");
});

t.test("a direct path that fails under traffic is left within failoverTime", async (t) => {
	for (const failoverTime of [300, 500, 1000, 3000]) {
		const pace = paceOf({ failoverTime, holdTime: 5, holdTimeMax: 300 });
		for (const roundTrip of [0.1, 5, failoverTime / 20]) {
			let worst = 0;
			for (let seed = 1; seed <= 6; seed++)
				for (let phase = 0; phase < 1.2 * pace.watch; phase += pace.watch / 9) {
					const at = 8000 + phase;
					const wire = busy(dead([at, 1e9]), { roundTrip: () => roundTrip });
					const peer = new PaperPeer(wire, { pace, seed }).run(at + 2 * failoverTime);
					const left = peer.first("tunnel", at) - at;
					worst = Math.max(worst, left < 0 ? 1e9 : left);
				}
			const what = `${failoverTime} ms, ${roundTrip} ms away: ${worst.toFixed(0)} ms at worst`;
			t.ok(worst <= failoverTime, what);
		}
	}
});

t.test("a failed direct path is used again after the hold time", async (t) => {
	for (const seed of [1, 2, 3]) {
		const peer = new PaperPeer(busy(dead([8000, 20_000])), { seed }).run(15_000);
		t.equal(peer.uses(), "tunnel direct tunnel");
		t.equal(peer.state.hold, 5000);
		t.match(peer.words(), /^geneve: direct path drops our source address, and n2's;/);
		peer.run(21_500);
		t.match(
			peer.words(),
			/^geneve: the direct path answers again; it is used after 5 s without failure\.$/,
		);
		peer.run(60_000);
		const back = peer.first("direct", 20_000) - 20_000;
		t.ok(back >= 5000, `not before: ${back} ms`);
		t.ok(back < 5000 + 1200 + 1200, `and soon: ${back} ms`);
		t.equal(peer.uses(), "tunnel direct tunnel direct");
	}
});

t.test("a flapping path is not followed", async (t) => {
	for (const seed of [1, 2, 3])
		for (const every of [500, 1000, 2000, 4000]) {
			const flaps: Passes = (way, _end, _length, now) =>
				way !== "direct" || now < 5000 || Math.floor(now / every) % 2 === 0;
			const peer = new PaperPeer(busy(flaps), { seed }).run(120_000);
			const what = `every ${every} ms`;
			t.equal(peer.uses(), "tunnel direct tunnel", what);
			t.equal(peer.state.hold, 5000, `${what}: one failure`);
		}
});

t.test("the hold time doubles with each failure up to its maximum, and is reset", async (t) => {
	const pace = paceOf({ failoverTime: 1000, holdTime: 5, holdTimeMax: 30 });
	let broken = false;
	const peer = new PaperPeer(
		busy((way) => way !== "direct" || !broken),
		{ pace },
	);
	peer.run(5000);
	const holds: number[] = [];
	for (let time = 0; time < 5; time++) {
		broken = true;
		peer.run(peer.now + 3000);
		t.equal(peer.state.use, "tunnel");
		holds.push(peer.state.hold);
		broken = false;
		const from = peer.now;
		peer.run(from + peer.state.hold + 4000);
		t.equal(peer.state.use, "direct");
		t.ok(peer.first("direct", from) - from >= peer.state.hold, "good for all of it");
		peer.run(peer.now + 20_000);
	}
	t.same(holds, [5000, 10_000, 20_000, 30_000, 30_000]);
	peer.run(peer.now + 601_000);
	broken = true;
	peer.run(peer.now + 3000);
	t.equal(peer.state.hold, 5000, "what was long ago");
});

t.test("the failing direction is found", async (t) => {
	const rows: [what: string, passes: (way: Way, end: End) => boolean, words: RegExp][] = [
		["there", (way, end) => way !== "direct" || end !== "there", /drops our source address; /],
		["back", (way, end) => way !== "direct" || end !== "back", /drops n2's source address; /],
		["both", (way) => way !== "direct", /drops our source address, and n2's; /],
	];
	for (const [what, passes, words] of rows)
		for (const from of [0, 8000]) {
			const wire = busy((way, end, _length, now) => now < from || passes(way, end));
			const peer = new PaperPeer(wire).run(from + 3000);
			t.equal(peer.uses(), from === 0 ? "tunnel" : "tunnel direct tunnel", what);
			t.match(peer.words(), words, what);
			const { there, back } = peer.state;
			t.equal(there.answered > 0, what === "back", `${what}: there`);
			t.equal(back.answered > 0, what === "there", `${what}: back`);
			peer.run(from + 40_000);
			t.match(peer.words(), words, `${what}, later`);
		}
	const routed: Policy = { ...HYBRID, direct: choice("routed", 1500) };
	const peer = new PaperPeer(
		busy((way) => way !== "direct"),
		{ policy: routed },
	).run(5000);
	t.match(peer.words(), /the direct path is not routed; /);
});

t.test("a direct path that alone loses packets is left", async (t) => {
	const times: number[] = [];
	let returns = 0;
	for (let seed = 1; seed <= 15; seed++) {
		const wire = busy(losing(20, 10_000, ["direct"], seed));
		const peer = new PaperPeer(wire, { seed }).run(10_000);
		while (peer.state.use === "direct" && peer.now < 60_000) peer.run(peer.now + 100);
		times.push(peer.now - 10_000);
		t.equal(peer.state.direct.cause, "loss");
		t.match(
			peer.words(),
			/^geneve: the direct path (loses [123]\d % of probes, the tunnel 0 %|lost [123]\d % of probes; it is used again after .*)\.$/,
		);
		peer.run(peer.now + 2000);
		t.match(peer.words(), /^geneve: the direct path (loses|lost) [123]\d % of probes[,;] /);
		peer.run(100_000);
		returns += peer.uses().split(" direct").length - 2;
	}
	const [median = 0] = times.sort((a, b) => a - b).slice(7);
	t.ok(median <= 5000 && (times.at(-1) ?? 0) <= 20_000, `after ${times.join(", ")} ms`);
	t.ok(returns <= 3, `and taken again by mere luck: ${returns} times of 15`);
	for (let seed = 1; seed <= 10; seed++) {
		const wire = busy(losing(20, 10_000, ["direct", "tunnel"], seed));
		const peer = new PaperPeer(wire, { seed }).run(60_000);
		t.equal(peer.uses(), "tunnel direct", "the tunnel is no better");
	}
	const few = new PaperPeer(busy(losing(2, 10_000))).run(60_000);
	t.equal(few.uses(), "tunnel direct", "a few are lost everywhere");
	// Without Pod packets to count there are only the requests.
	const quiet = { packets: 2, large: 0 };
	const peer = new PaperPeer(busy(losing(40, 10_000), { traffic: () => quiet })).run(40_000);
	t.equal(peer.uses(), "tunnel direct tunnel");
});

t.test("full-size packets are lost: the size is found, and the better path is used", async (t) => {
	for (const limit of [1499, 1460, 1400, 1330, 1301]) {
		const peer = new PaperPeer(busy(narrow(limit, 10_000))).run(14_000);
		t.equal(peer.state.direct.size, limit, "exactly");
		t.equal(peer.state.tunnel.size, Math.min(1450, limit - 50), "of the tunnel as well");
		t.equal(peer.uses(), "tunnel direct", "the tunnel is no larger");
		const known = peer.moments.find(({ at, size }) => at > 10_000 && size < 1500)?.at ?? 0;
		t.ok(known - 10_000 < 1000, `${known - 10_000} ms, by what Pods send`);
		peer.run(200_000);
		t.equal(peer.state.direct.size, limit, "still");
		const rate = peer.rate(80_000, 200_000);
		t.ok(rate < 300, `${rate} requests a minute`);
	}
	for (const [limit, use] of [
		[1460, "direct"],
		[1400, "tunnel"],
	] as const) {
		const peer = new PaperPeer(busy(narrow(limit, 10_000, ["direct"]))).run(15_000);
		t.equal(peer.state.direct.size, limit);
		t.equal(peer.state.use, use, `${limit} directly, 1450 in the tunnel`);
	}
	const tiny = new PaperPeer(busy(narrow(1200, 10_000, ["direct"]))).run(15_000);
	t.equal(tiny.state.use, "tunnel");
	tiny.run(300_000);
	t.ok(tiny.rate(20_000, 300_000) < 300, `${tiny.rate(20_000, 300_000)} requests a minute`);
	t.match(tiny.words(), /carries no packet of 1280 bytes/);
});

t.test("a network that was always too narrow", async (t) => {
	const peer = new PaperPeer(busy(narrow(1400))).run(5000);
	t.equal(peer.state.direct.size, 1400);
	t.equal(peer.state.tunnel.size, 1350);
	t.equal(peer.state.use, "direct");
	let limit = 1400;
	const idle = new PaperPeer({ passes: narrow(1400) }).run(1_800_000);
	t.ok(idle.rate(60_000, 1_800_000) < 8, `${idle.rate(60_000, 1_800_000)} a minute when idle`);
	t.match(idle.words(), /^direct: (\d+) of \1 probes answered, 1400 bytes of 1500 get through, /);
	const wire = busy((way, _end, length) => length + (way === "tunnel" ? 50 : 0) <= limit);
	const later = new PaperPeer(wire).run(10_000);
	limit = 1430;
	later.run(later.now + 80_000);
	t.equal(later.state.direct.size, 1430, "a little wider");
	t.equal(later.state.tunnel.size, 1380);
	limit = 1500;
	later.run(later.now + 150_000);
	t.equal(later.state.direct.size, 1500, "wider after a while");
	t.equal(later.state.tunnel.size, 1450);
});

t.test("a narrow path that fails is used again after it recovers", async (t) => {
	const passes: Passes = (way, end, length, now) =>
		narrow(1400)(way, end, length, now) && dead([10_000, 20_000])(way, end, length, now);
	const peer = new PaperPeer(busy(passes)).run(60_000);
	t.equal(peer.uses(), "tunnel direct tunnel direct");
	t.equal(peer.state.direct.size, 1400);
});

t.test("a tunnel that became narrow while unused is searched when it is used", async (t) => {
	const passes: Passes = (way, end, length, now) =>
		dead([60_000, 1e9])(way, end, length, now) && (now < 50_000 || length <= 1350);
	const peer = new PaperPeer(
		busy((...given) => (given[0] === "direct" && given[3] < 60_000) || passes(...given)),
	);
	peer.run(61_500);
	t.equal(peer.state.use, "tunnel");
	t.equal(peer.state.tunnel.size, 1350);
});

t.test("a lossy and narrow path is not searched continuously", async (t) => {
	const lossy = losing(60, 5000);
	const peer = new PaperPeer(
		busy(
			(...given) => lossy(...given) && (given[3] < 5000 || narrow(1350, 0, ["direct"])(...given)),
		),
	).run(60_000);
	const searched = peer.requests.filter(({ purpose }) => purpose === "search").length;
	t.ok(searched < 60 * 40, `${searched} in a minute`);
});

t.test("a narrow path next to a blocked tunnel", async (t) => {
	const peer = new PaperPeer(busy((way, _end, length) => way === "direct" && length <= 1400));
	t.equal(peer.run(10_000).uses(), "tunnel direct");
});

t.test("a narrow path becomes narrower", async (t) => {
	let limit = 1400;
	const wire = busy((way, _end, length) => length + (way === "tunnel" ? 50 : 0) <= limit);
	const peer = new PaperPeer(wire).run(20_000);
	limit = 1300;
	peer.run(peer.now + 5000);
	t.equal(peer.state.direct.size, 1300);
	t.equal(peer.state.tunnel.size, 1280 - 30);
	t.equal(peer.state.use, "direct");
});

t.test("a dead peer is down after the time-out and not before", async (t) => {
	for (const seed of [1, 2, 3, 4]) {
		const at = 10_000 + 97 * seed;
		const passes: Passes = (_way, _end, _length, now) => now < at || now >= 30_000;
		const peer = new PaperPeer(busy(passes), { seed }).run(29_000);
		const down = peer.first("down", at) - at;
		t.ok(down >= PACE.downAfter, `not before: ${down} ms`);
		t.ok(down < PACE.downAfter + 1000, `and then: ${down} ms`);
		t.equal(peer.uses(), "tunnel direct down", "nothing in between");
		t.match(
			peer.words(),
			/^down: neither the direct path nor geneve has been answered for \d+ s\.$/,
		);
		peer.tell({ kind: "greeting" });
		peer.run(30_500);
		peer.tell({ kind: "greeting" });
		peer.run(60_000);
		t.equal(peer.state.use, "direct");
		const answer = peer.requests.find(({ at, answered }) => at >= 30_000 && answered)?.at ?? 0;
		const [up, direct] = [
			peer.moments.find((m) => m.at >= 30_000 && m.use !== "down")?.at ?? 0,
			peer.first("direct", 30_000),
		];
		t.ok(up - answer < 500, `not down ${up - answer} ms after the first answer`);
		t.ok(direct - answer < 1000, `direct ${direct - answer} ms after the first answer`);
		t.equal(peer.state.hold, 0, "the path was not to blame");
	}
	const silent = new PaperPeer(
		busy((_way, _end, _length, now) => now < 10_000, { hears: () => true }),
	);
	t.notMatch(silent.run(60_000).uses(), /down/, "who sends is not down");
});

t.test("another implementation, which never answers", async (t) => {
	const peer = new PaperPeer(busy(() => false)).run(120_000);
	t.equal(peer.uses(), "tunnel");
	t.equal(peer.words(), "geneve: n2 has answered no probe yet, so the direct path is not proven.");
	t.ok(
		peer.requests.every(({ hello }) => hello),
		"each says that it knows no answer",
	);
});

t.test("modes that do not depend on probes", async (t) => {
	const gone: Passes = (_way, _end, _length, now) => now < 10_000 || now > 20_000;
	const noEncap: Policy = { ...HYBRID, mode: "noEncap", verified: false, tunnel: undefined };
	const direct = new PaperPeer(busy(gone), { policy: noEncap }).run(40_000);
	t.equal(direct.uses(), "direct");
	t.match(
		new PaperPeer(busy(gone), { policy: noEncap }).run(18_000).words(),
		/nothing to fall back to/,
	);
	const encap: Policy = { ...HYBRID, mode: "encap", verified: false, direct: undefined };
	t.equal(new PaperPeer(busy(always), { policy: encap }).run(40_000).uses(), "tunnel");
	t.equal(new PaperPeer(busy(gone), { policy: encap }).run(40_000).uses(), "tunnel down tunnel");
	const unverified: Policy = { ...HYBRID, verified: false };
	t.equal(new PaperPeer(busy(gone), { policy: unverified }).run(40_000).uses(), "direct");
	t.equal(
		new PaperPeer(
			busy(() => false),
			{ policy: unverified },
		)
			.run(9000)
			.uses(),
		"direct",
	);
});

t.test("an idle path is rarely probed", async (t) => {
	const hour = 3_600_000;
	const peer = new PaperPeer({ passes: always }).run(hour);
	t.equal(peer.uses(), "tunnel direct");
	t.ok(peer.rate(60_000, hour) <= 1.5, `${peer.rate(60_000, hour)} requests a minute`);
	const dark = new PaperPeer({ passes: (way) => way !== "direct" }).run(hour);
	// Most of them ask which direction it is.
	t.ok(dark.rate(60_000, hour) <= 16, `${dark.rate(60_000, hour)} where it does not work`);
	for (const event of [{ kind: "traffic" }, { kind: "greeting" }] as const) {
		const asked = peer.requests.length;
		peer.tell(event);
		t.same(
			peer.requests
				.slice(asked)
				.map(({ there }) => there)
				.sort(),
			["direct", "tunnel"],
			`${event.kind}: at once`,
		);
		peer.run(peer.now + 10_000);
	}
});

t.test("a path that died while it was idle is left soon after traffic begins", async (t) => {
	let alive = true;
	let loaded = false;
	const wire: Wire = {
		passes: (way) => alive || way !== "direct",
		traffic: () => (loaded ? BUSY() : IDLE()),
	};
	const peer = new PaperPeer(wire).run(300_000);
	alive = false;
	peer.run(peer.now + 5000);
	loaded = true;
	const from = peer.now;
	peer.tell({ kind: "traffic" });
	peer.run(from + 2000);
	const left = peer.first("tunnel", from) - from;
	t.ok(left > 0 && left < 1000, `${left} ms`);
});

t.test("late, duplicate and reordered answers", async (t) => {
	const far = new PaperPeer(busy(always, { roundTrip: (_way, now) => (now > 10_000 ? 400 : 1) }));
	far.run(60_000);
	t.ok(far.late > 0, "some came late");
	t.equal(far.state.use, "direct", "a path that becomes slower is no broken one");
	const random = randomOf(4);
	const mixed = busy(always, { roundTrip: () => random() * 60, copies: () => 2 });
	t.equal(new PaperPeer(mixed).run(60_000).uses(), "tunnel direct");
});

t.test("a reset of the core's counters does not count as loss", async (t) => {
	const peer = new PaperPeer(busy(always));
	for (let i = 1; i < 20; i++) {
		peer.run(i * 3000);
		if (i > 2) peer.restart();
	}
	t.equal(peer.uses(), "tunnel direct");
	t.equal(peer.state.direct.size, 1500);
	t.equal(peer.requests.filter(({ purpose }) => purpose === "search").length, 0);
});

t.test("a changed path starts without proof", async (t) => {
	const peer = new PaperPeer(busy(dead([8000, 9000]))).run(10_000);
	t.equal(peer.state.hold, 5000);
	peer.tell({ kind: "policy", policy: { ...HYBRID, direct: choice("direct", 1480) } });
	t.equal(peer.state.use, "tunnel");
	t.equal(peer.state.hold, 0);
	peer.run(12_000);
	t.equal(peer.state.use, "direct");
	t.equal(peer.state.direct.size, 1480);
	peer.tell({ kind: "policy", policy: { ...HYBRID, direct: undefined } });
	t.equal(peer.state.use, "tunnel", "no longer to be taken");
	peer.tell({ kind: "policy", policy: HYBRID });
	t.equal(peer.state.use, "tunnel");
	peer.run(14_000);
	t.equal(peer.state.use, "direct");
	const before = peer.state.direct;
	peer.tell({ kind: "policy", policy: { ...HYBRID } });
	t.equal(peer.state.direct.phaseAt, before.phaseAt, "the same path keeps its proof");
});

t.test("the direct path changes and the tunnel goes at once", async (t) => {
	const peer = new PaperPeer(busy(always)).run(10_000);
	t.equal(peer.state.use, "direct");
	const policy = { ...HYBRID, direct: choice("direct", 1280), tunnel: undefined };
	peer.tell({ kind: "policy", policy });
	peer.run(20_000);
	t.equal(peer.state.use, "direct", "proven anew");
	t.equal(peer.state.direct.size, 1280);
});

t.test("hold times survive a restart", async (t) => {
	const peer = new PaperPeer(busy(always), { hold: 20_000 }).run(60_000);
	t.ok(peer.first("direct") >= 20_000 && peer.first("direct") < 24_000, `${peer.first("direct")}`);
});

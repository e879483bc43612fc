/** What peers announce of untunnelled packets, and what a Node makes of it. */
import t from "tap";
import {
	adoptedAnnouncement,
	begin,
	hear,
	mayGoUntunnelled,
	newAnnouncement,
	passed,
	untunnelledOf,
	WAIT_MS,
} from "../../src/probe/peer/announcement.js";
import { PeerFlag, ProbeFlag } from "../../src/tables/generated.js";

const { ANNOUNCES, SENDS_UNTUNNELLED, TAKES_UNTUNNELLED } = ProbeFlag;
const SENDS = ANNOUNCES | SENDS_UNTUNNELLED;
const TAKES = ANNOUNCES | TAKES_UNTUNNELLED;

t.test("a peer that begins to send untunnelled packets is believed at once", async (t) => {
	const before = hear(newAnnouncement(), ANNOUNCES, 0);
	t.equal(before.sends, false);
	t.equal(hear(before, SENDS, 1).sends, true);
});

t.test("one that ends it is believed for what is on its way", async (t) => {
	const ended = hear(hear(newAnnouncement(), SENDS, 0), ANNOUNCES, 1000);
	t.equal(ended.sends, true);
	t.equal(passed(ended, 2999).sends, true);
	t.equal(passed(ended, 3000).sends, false);
	const again = hear(ended, ANNOUNCES, 2500);
	t.equal(passed(again, 3000).sends, false, "however often it says so");
	t.equal(passed(hear(ended, SENDS, 2500), 9000).sends, true, "unless it begins again");
});

t.test(
	"a peer that has announced the end is not invited while its last packets are taken",
	async (t) => {
		const ended = hear(hear(newAnnouncement(), SENDS, 0), ANNOUNCES, 1000);
		t.equal(untunnelledOf(hear(newAnnouncement(), SENDS, 0)), "taken");
		t.equal(untunnelledOf(ended), "ending");
		t.equal(untunnelledOf(passed(ended, 3000)), "refused");
		t.equal(untunnelledOf(hear(ended, SENDS, 2500)), "taken", "unless it begins again");
		const { ANNOUNCED, ENDING } = PeerFlag;
		const adopted = adoptedAnnouncement(ANNOUNCED | ENDING, false, 0);
		t.equal(untunnelledOf(adopted), "ending", "over a restart, too");
		t.equal(untunnelledOf(passed(adopted, 2000)), undefined, "a peer that is silent");
	},
);

t.test("who begins to send without a tunnel waits for a new word of the peer", async (t) => {
	const old = hear(newAnnouncement(), TAKES, 0);
	t.equal(mayGoUntunnelled(old, true, 5000), true);
	const begun = begin(old, 5000);
	t.equal(mayGoUntunnelled(begun, true, 9000), false, "what it said before may be over");
	t.equal(mayGoUntunnelled(hear(begun, TAKES, 5010), true, 5010), true);
	t.equal(mayGoUntunnelled(begun, false, 5000 + WAIT_MS), true, "without proof, not for ever");
	const silent = hear(newAnnouncement(), 0, 0);
	t.equal(
		mayGoUntunnelled(begin(silent, 5000), true, 5000),
		true,
		"who announces nothing takes all",
	);
});

t.test(
	"a version that announces nothing leaves it to this Node's mode, and takes all",
	async (t) => {
		const silent = hear(hear(newAnnouncement(), SENDS, 0), 0, 1);
		t.equal(silent.sends, undefined);
		t.equal(mayGoUntunnelled(silent, true, 1), true);
		t.equal(mayGoUntunnelled(silent, false, 1), true);
	},
);

t.test("untunnelled packets go to a peer that takes them", async (t) => {
	const refuses = { ...hear(newAnnouncement(), ANNOUNCES, 0), waitUntil: 1000 };
	t.equal(mayGoUntunnelled(refuses, false, 999), false);
	t.equal(mayGoUntunnelled(refuses, false, 1000), true, "a mode without proof waits no longer");
	t.equal(mayGoUntunnelled(refuses, true, 1000), false, "a proven path has the tunnel to stay in");
	t.equal(mayGoUntunnelled(hear(refuses, TAKES, 5), true, 6), true);
	const unheard = { ...newAnnouncement(), waitUntil: 1000 };
	t.equal(mayGoUntunnelled(unheard, false, 999), false);
	t.equal(mayGoUntunnelled(unheard, false, 1000), true, "another implementation, say");
	t.equal(mayGoUntunnelled(newAnnouncement(), false, 0), true, "a peer of the first hour");
});

t.test("a restart keeps what was known", async (t) => {
	const { ANNOUNCED, TUNNELLED_ONLY } = PeerFlag;
	t.equal(adoptedAnnouncement(ANNOUNCED, false, 0).sends, true);
	t.equal(adoptedAnnouncement(ANNOUNCED | TUNNELLED_ONLY, false, 0).sends, false);
	t.equal(adoptedAnnouncement(TUNNELLED_ONLY, false, 0).sends, undefined);
	const upgraded = adoptedAnnouncement(0, false, 0);
	t.equal(upgraded.sends, true, "what was taken before an upgrade is taken on");
	t.equal(passed(upgraded, 2000).sends, undefined, "until the peer had time to announce");
	t.equal(passed(hear(upgraded, SENDS, 100), 2000).sends, true);
	t.equal(mayGoUntunnelled(adoptedAnnouncement(ANNOUNCED, true, 0), false, WAIT_MS - 1), false);
	t.equal(mayGoUntunnelled(adoptedAnnouncement(ANNOUNCED, true, 0), false, WAIT_MS), true);
	t.equal(mayGoUntunnelled(adoptedAnnouncement(ANNOUNCED, false, 0), false, 0), true);
});

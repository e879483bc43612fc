import t from "tap";
import { Refusal } from "../../scripts/step.mjs";
import { modes } from "../kubernetes/agents.js";
import { suiteNames } from "../kubernetes/suites.js";
import { ownSuites, testOptions, usage } from "../kubernetes/test_options.js";

t.test("without options the three modes run on Fairway's Services", async (t) => {
	t.match(testOptions([]), {
		...{ help: false, networks: modes, proxy: "fairway", suites: ["smoke", "conformance", "pods"] },
		...{ together: false, procs: 4, record: false, cases: "", selection: undefined, minutes: 120 },
	});
});

t.test("modes and suites run in a fixed order", async (t) => {
	const words = "--mode noEncap --mode encap --suite=netpol --suite smoke --together --record";
	t.match(testOptions(words.split(" ")), {
		...{ networks: ["encap", "noEncap"], suites: ["smoke", "netpol"] },
		...{ together: true, record: true },
	});
});

t.test("a network of others has kube-proxy", async (t) => {
	t.equal(testOptions(["--mode", "plain", "--services", "fairway"]).proxy, "kube-proxy");
	t.equal(testOptions(["--services", "kube-proxy"]).proxy, "kube-proxy");
});

t.test("specs instead of suites", async (t) => {
	t.strictSame(testOptions(["--focus", "DNS", "--skip", "slow"]).selection, {
		...{ focus: "DNS", labels: "", skip: "slow" },
	});
	t.strictSame(testOptions(["--labels", "!Slow"]).selection, {
		...{ focus: "", labels: "!Slow", skip: undefined },
	});
});

t.test("what cannot be run is refused in one sentence, before anything is built", async (t) => {
	const rows: [string, RegExp][] = [
		["--mode overlay", /^Cannot use --mode overlay: expected one of encap, hybrid, noEncap, plain/],
		["--suite netpoll", /^Cannot use --suite netpoll: expected one of .*\bnetpol\b/],
		["--services cilium", /^Cannot use --services cilium: expected one of fairway, kube-proxy/],
		["--procs many", /^Cannot use --procs many: expected a positive whole number/],
		["--minutes 0", /^Cannot use --minutes 0/],
		["--focus (", /^Cannot use --focus: Invalid regular expression/],
		["--mode plain --mode hybrid", /^Cannot run hybrid and plain on one cluster/],
		["--mode plain --suite smoke", /^Cannot run smoke with plain: it tests Fairway/],
		["--write-suite network", /^Cannot write a suite: expected --focus or --labels/],
		["--record --cases 19", /^Cannot record parts of suites/],
		["--record --focus DNS", /^Cannot record parts of suites/],
		["--verbose", /^Cannot read the options: Unknown option '--verbose'/],
	];
	for (const [words, message] of rows) {
		let error: unknown;
		try {
			testOptions(words.split(" "));
		} catch (thrown) {
			error = thrown;
		}
		t.ok(error instanceof Refusal, words);
		t.match((error as Error).message, message);
		t.notMatch((error as Error).message, /\n/, "one line");
	}
});

t.test("the usage names every suite", async (t) => {
	for (const suite of [...ownSuites, ...suiteNames]) t.match(usage, new RegExp(`\\b${suite}\\b`));
});

import t from "tap";
import { ownSources, programsFor } from "../../scripts/kubernetes.mjs";
import { resultsIn } from "../kubernetes/go_test.js";
import { compared, type Suite } from "../kubernetes/suite.js";
import { jobsOf, suiteNames } from "../kubernetes/suites.js";

t.test("the results of a Go test binary are its innermost tests", async (t) => {
	const output = `=== RUN   TestAll
    suite.go:170: Test Setup: Applying base manifests
=== RUN   TestAll/Egress
=== RUN   TestAll/Egress/Should_allow_'tcp'
=== RUN   TestAll/Egress/Should_deny
    helper.go:96: FAILED Command was [/agnhost connect]
    one.go:50: 
        	Error Trace:	one.go:50
        	Error:      	Condition never satisfied
=== RUN   TestAll/Ingress
    two.go:9: unable to fetch pod
--- FAIL: TestAll (20.00s)
    --- FAIL: TestAll/Egress (15.50s)
        --- PASS: TestAll/Egress/Should_allow_'tcp' (1.25s)
        --- FAIL: TestAll/Egress/Should_deny (13.00s)
    --- FAIL: TestAll/Ingress (0.01s)
    --- SKIP: TestAll/Nodes (0.00s)
FAIL
`;
	const results = resultsIn(output);
	t.match(results, [
		{ name: "Egress: Should allow 'tcp'", state: "passed", seconds: 1.25, message: "" },
		{ name: "Egress: Should deny", state: "failed", seconds: 13, message: /Condition never/ },
		{ name: "Ingress", state: "failed", message: /unable to fetch pod/ },
	]);
	t.equal(results.length, 3);
});

t.test("a Go test binary that fails before its tests has one failure", async (t) => {
	const results = resultsIn(
		"=== RUN   TestAll\n    a.go:1: Error: no cluster\n--- FAIL: TestAll (0.1s)\n",
	);
	t.match(results, [{ name: "TestAll", state: "failed", message: /no cluster/ }]);
});

t.test("a suite has a result for each spec of its list", async (t) => {
	const passed = (name: string) => ({ name, state: "passed" as const, seconds: 1, message: "" });
	const suite: Suite = {
		...{ name: "some", labels: undefined, focus: undefined, complete: false },
		specs: ["a", "b"],
	};
	t.match(compared(suite, [passed("a"), passed("c")]), [
		{ name: "a", state: "passed" },
		{ name: "b", state: "absent", message: "The spec did not run." },
	]);
	t.match(compared({ ...suite, complete: true }, [passed("a"), passed("b"), passed("c")]), [
		{ name: "a", state: "passed" },
		{ name: "b", state: "passed" },
		{ name: "c", state: "failed", message: /is not in some\.txt/ },
	]);
});

t.test("programs that one suite needs are built for that suite alone", async (t) => {
	const names = (...args: string[]) => Object.keys(programsFor(args));
	t.notOk(names().includes("cyclonus"));
	t.ok(names().includes("kubelet"));
	t.ok(names("--suite", "cyclonus-pod-ip").includes("connector"));
	t.ok(names("--suite=clusterpolicy").includes("network-policy-api.test"));
	t.ok(names("--mode", "kube-router").includes("kube-router"));
	t.ok(names("--suite", "routing").includes("routes"));
});

t.test("the suites of cyclonus share one run, the others have one each", async (t) => {
	const jobs = (...suites: string[]) => jobsOf(suites).map((job) => job.suites);
	t.strictSame(jobs("cyclonus-service-ip", "network", "cyclonus-pod-ip", "smoke"), [
		["network"],
		["cyclonus-pod-ip", "cyclonus-service-ip"],
	]);
	t.strictSame(jobs("clusterpolicy"), [["clusterpolicy"]]);
	t.strictSame(jobs(...suiteNames).flat(), suiteNames, "every suite has a job");
});

t.test("a program is built anew when a package changes that it imports", async (t) => {
	const {
		"agnhost-front": front,
		connector,
		balancers,
		kubelet,
	} = programsFor(["cyclonus-pod-ip"]);
	for (const program of [front, connector])
		t.match(ownSources(program), [/main\.go$/, /sctp\/sctp\.go$/, /sctp_test\.go$/]);
	t.match(ownSources(balancers), [/balancers\/main\.go$/]);
	t.strictSame(ownSources(kubelet), []);
});

/** Kubernetes' own end-to-end specs, by ginkgo. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../src/lab/namespace.js";
import { kubeconfig } from "./certificates.js";
import { folders, nodePlans, program, router } from "./layout.js";
import type { SpecResult, Suite } from "./suite.js";

/** Images of the suite have local names; all are imported before. */
const registries = {
	promoterE2eRegistry: "localhost/e2e",
	buildImageRegistry: "localhost/e2e",
	gcEtcdRegistry: "localhost/e2e",
	dockerLibraryRegistry: "localhost/e2e",
	gcRegistry: "localhost",
};

interface SpecReport {
	ContainerHierarchyTexts: string[] | null;
	LeafNodeType: string;
	LeafNodeText: string;
	State: string;
	RunTime: number;
	Failure?: { Message: string };
}

export interface Selection {
	/** Of the log and the report: several runs may go on at the same time. */
	name?: string;
	/** A regular expression over the names. */
	focus?: string;
	/** Those that are left out of them. */
	skip?: string;
	/** As ginkgo's --label-filter. */
	labels?: string;
	/** Specs at once; default 4. */
	procs?: number;
	/** Of all together; default 120. */
	minutes?: number;
}

const literal = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Runs what a suite lists, or all that its first lines select. */
export function runListed(suite: Suite, procs = 4): Promise<SpecResult[]> {
	const { complete, labels = "", focus = "", specs } = suite;
	const name = suite.name;
	if (!complete) return runSpecs({ name, focus: specs.map(literal).join("|"), procs });
	return runSpecs({ name, labels, focus, procs });
}

const logOf = (name: string): string => join(folders.logs, `${name}.log`);

/** How many specs of a run have ended: ginkgo prints a bullet for each. */
export function endedIn(name: string): number {
	try {
		return readFileSync(logOf(name), "utf8").match(/•/g)?.length ?? 0;
	} catch {
		return 0;
	}
}

/** Runs what the selection selects, in the router: outside the cluster. Ginkgo's own output goes to a log. */
export async function runSpecs({
	name = "e2e",
	focus = "",
	skip = "",
	labels = "",
	procs = 4,
	minutes = 120,
}: Selection): Promise<SpecResult[]> {
	mkdirSync(folders.results, { recursive: true });
	const registryFile = join(folders.results, "registries.yaml");
	writeFileSync(registryFile, JSON.stringify(registries));
	const report = join(folders.results, `${name}.json`);
	rmSync(report, { force: true });
	rmSync(logOf(name), { force: true });
	await router.run(
		[
			...["sh", "-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh", logOf(name)],
			...[program("ginkgo"), `--procs=${procs}`, `--focus=${focus}`, `--label-filter=${labels}`],
			...(skip === "" ? [] : [`--skip=${skip}`]),
			...["--no-color", `--timeout=${minutes}m`, `--json-report=${name}.json`],
			...[`--output-dir=${folders.results}`, program("e2e.test"), "--", "--provider=skeleton"],
			...[`--kubeconfig=${kubeconfig("admin")}`, `--kubectl-path=${program("kubectl")}`],
			// It is detected by a few specs alone, and others are skipped until then.
			...[`--num-nodes=${nodePlans.length}`, "--dump-logs-on-failure=false"],
		],
		{
			mayFail: true,
			// Ginkgo ends by itself, and writes its report then.
			timeoutMs: (minutes + 5) * 60_000,
			environment: { KUBE_TEST_REPO_LIST: registryFile, KUBERNETES_CONFORMANCE_TEST: "y" },
		},
	);
	return readReport(report, readFileSync(logOf(name), "utf8"));
}

/** Names of all specs with these labels; nothing runs. */
export async function listSpecs(labels: string): Promise<string[]> {
	mkdirSync(folders.results, { recursive: true });
	const report = join(folders.results, "inventory.json");
	const { stdout, stderr } = await run([
		...[program("e2e.test"), "--ginkgo.dry-run", `--ginkgo.label-filter=${labels}`],
		...[`--ginkgo.json-report=${report}`, "--provider=skeleton"],
	]);
	return readReport(report, stdout + stderr).map(({ name }) => name);
}

function readReport(file: string, output: string): SpecResult[] {
	let text: string;
	try {
		text = readFileSync(file, "utf8");
	} catch {
		throw new Error(`Cannot run upstream's specs: ${output.trim().slice(-2000)}`);
	}
	const suites = JSON.parse(text) as { SpecReports: SpecReport[] }[];
	const reports = suites.flatMap((one) => one.SpecReports);
	return reports
		.filter(({ LeafNodeType, State }) =>
			LeafNodeType === "It" ? State !== "skipped" && State !== "pending" : State === "failed",
		)
		.map((spec) => ({
			name: [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText || spec.LeafNodeType].join(
				" ",
			),
			state: spec.State === "passed" ? "passed" : "failed",
			seconds: spec.RunTime / 1e9,
			message: spec.Failure?.Message ?? "",
		}));
}

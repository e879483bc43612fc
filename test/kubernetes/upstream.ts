/** Kubernetes' own end-to-end specs, by ginkgo. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
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
	if (!complete) return runSpecs({ focus: specs.map(literal).join("|"), procs });
	return runSpecs({ labels, focus, procs });
}

/** Several may go on at the same time: each has a report of its own. */
let runs = 0;

/** Runs what the selection selects, in the router: outside the cluster. Ginkgo's own output goes to the logs. */
export async function runSpecs({
	focus = "",
	skip = "",
	labels = "",
	procs = 4,
	minutes = 120,
}: Selection): Promise<SpecResult[]> {
	mkdirSync(folders.results, { recursive: true });
	const registryFile = join(folders.results, "registries.yaml");
	writeFileSync(registryFile, JSON.stringify(registries));
	runs += 1;
	const report = join(folders.results, `report-${runs}.json`);
	rmSync(report, { force: true });
	const { stdout, stderr } = await router.run(
		[
			...[program("ginkgo"), `--procs=${procs}`, `--focus=${focus}`, `--label-filter=${labels}`],
			...(skip === "" ? [] : [`--skip=${skip}`]),
			...["--no-color", `--timeout=${minutes}m`, `--json-report=report-${runs}.json`],
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
	writeFileSync(join(folders.logs, "e2e.log"), stdout + stderr, { flag: "a" });
	return readReport(report, stdout + stderr);
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

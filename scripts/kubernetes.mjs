// The programs of a Kubernetes cluster, built from the Go modules that test/kubernetes/modules pins, into
// build/kubernetes/bin. Some 25 minutes on two cores with an empty Go build cache, seconds afterwards.
// Plain Node.js without dependencies, like everything that npm's scripts start with.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { filesUnder, fingerprint, once, Refusal, run, say, top } from "./step.mjs";

const MINIMUM_GO = [1, 26];
const BIN = "build/kubernetes/bin";
const MODULES = "test/kubernetes/modules";
const KUBERNETES = "v1.37.2";

/** Programs report their version, and clients compare it: without these it is an unexpanded template. */
const versionFlags = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
	.flatMap((name) =>
		[
			`gitVersion=${KUBERNETES}`,
			"gitMajor=1",
			"gitMinor=37",
			"gitTreeState=clean",
			`gitCommit=${"0".repeat(40)}`,
			"buildDate=2026-01-01T00:00:00Z",
		].map((value) => `-X ${name}.${value}`),
	)
	.join(" ");

const ofKubernetes = (path) => ({
	module: "kubernetes",
	target: `k8s.io/kubernetes/${path}`,
	flags: `-s -w ${versionFlags}`,
});

/**
 * Program → the module that pins it, its package and the linker's flags. `own`: packages of the module that are this
 * project's; default: the program's, if it is. Their tests run before the program is built. `test`: a test binary.
 */
const programs = {
	"kube-apiserver": ofKubernetes("cmd/kube-apiserver"),
	kubelet: ofKubernetes("cmd/kubelet"),
	"kube-controller-manager": ofKubernetes("cmd/kube-controller-manager"),
	"kube-scheduler": ofKubernetes("cmd/kube-scheduler"),
	kubectl: ofKubernetes("cmd/kubectl"),
	"kube-proxy": ofKubernetes("cmd/kube-proxy"),
	agnhost: ofKubernetes("test/images/agnhost"),
	// What images start as agnhost.
	"agnhost-front": {
		module: "agnhost",
		target: "./front",
		own: ["./front", "./sctp"],
		flags: "-s -w",
	},
	ginkgo: { module: "kubernetes", target: "github.com/onsi/ginkgo/v2/ginkgo", flags: "" },
	"e2e.test": {
		module: "kubernetes",
		target: "./e2e",
		flags: `-s -w ${versionFlags}`,
		test: true,
	},
	etcd: { module: "etcd", target: "go.etcd.io/etcd/server/v3", flags: "-s -w" },
	coredns: { module: "coredns", target: "github.com/coredns/coredns", flags: "-s -w" },
	balancers: { module: "kubernetes", target: "./balancers", flags: "-s -w" },
};

const kubeRouter = {
	"kube-router": {
		module: "kube-router",
		target: "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
		flags: "-s -w",
	},
};
const cyclonus = {
	cyclonus: { module: "cyclonus", target: "./cases", flags: "-s -w" },
	connector: {
		module: "agnhost",
		target: "./connector",
		own: ["./connector", "./sctp"],
		flags: "-s -w",
	},
};

/** What only one suite or network needs, by its name. */
const programsOf = {
	routing: {
		routes: { module: "kubernetes", target: "./routes", flags: "-s -w" },
		...kubeRouter,
	},
	"kube-router": kubeRouter,
	"cyclonus-pod-ip": cyclonus,
	"cyclonus-service-ip": cyclonus,
	"cyclonus-service-name": cyclonus,
	clusterpolicy: {
		"network-policy-api.test": {
			module: "network-policy-api",
			target: "./conformance",
			flags: "-s -w",
			test: true,
		},
	},
};

/** The programs that a command line wants: those of the cluster, and those of the suites and networks in it. */
export function programsFor(args) {
	const words = args.flatMap((arg) => arg.split("="));
	return Object.assign({}, programs, ...words.map((word) => programsOf[word] ?? {}));
}

/** An API server and its store, without Nodes: what the bench `kube` needs. */
export const apiPrograms = {
	"kube-apiserver": programs["kube-apiserver"],
	etcd: programs.etcd,
};

/** What benches compare Fairway with, by the bench's name. */
export const comparedPrograms = {
	policy: kubeRouter,
	services: { "kube-proxy": programs["kube-proxy"] },
};

/** What `npm run test:chart` needs. */
export const chartPrograms = {
	helm: { module: "helm", target: "helm.sh/helm/v3/cmd/helm", flags: "-s -w" },
};

/** What `go env GOVERSION` printed → a sentence about why it does not do, or undefined. */
export function goRefusal(version) {
	const wanted = MINIMUM_GO.join(".");
	if (version === undefined)
		return `Cannot build Kubernetes' programs: expected Go ${wanted} or later as \`go\` in the PATH, got none.`;
	const [major = 0, minor = 0] = version
		.replace(/^go/, "")
		.split(".")
		.map((part) => Number.parseInt(part, 10));
	if (major > MINIMUM_GO[0] || (major === MINIMUM_GO[0] && minor >= MINIMUM_GO[1]))
		return undefined;
	return `Cannot build Kubernetes' programs: expected Go ${wanted} or later, got ${version}.`;
}

/** As `go1.26.0`; undefined: there is no Go in the PATH. */
export function goVersion() {
	const { error, status, stdout } = spawnSync("go", ["env", "GOVERSION"], {
		encoding: "utf8",
		env: { ...process.env, GOTOOLCHAIN: "local" },
	});
	return error || status !== 0 ? undefined : stdout.trim();
}

export function checkGo() {
	const refusal = goRefusal(goVersion());
	if (refusal) throw new Refusal(refusal);
}

/** Builds what is stale. Every program is announced, so that a long build shows that it goes on. */
export function buildPrograms(wanted) {
	checkGo();
	mkdirSync(join(top, BIN), { recursive: true });
	for (const [name, program] of Object.entries(wanted)) buildProgram(name, program);
}

/** Source files of this project that a program is made of. */
export function ownSources({ module, target, own = target.startsWith("./") ? [target] : [] }) {
	return own.flatMap((folder) => filesUnder(join(MODULES, module, folder), /\.go$/));
}

function buildProgram(name, program) {
	const { module, target, flags, test } = program;
	const folder = join(MODULES, module);
	const output = `${BIN}/${name}`;
	const stamp = `build/kubernetes/stamps/${name}`;
	const sources = ownSources(program);
	// A module without requirements has no sums.
	const pins = ["go.mod", "go.sum"]
		.map((file) => join(folder, file))
		.filter((file) => existsSync(join(top, file)));
	const inputs = () => fingerprint([...pins, ...sources], target, flags);
	if (!existsSync(join(top, output))) rmSync(join(top, stamp), { force: true });
	const go = (...args) =>
		run("go", args, {
			cwd: join(top, folder),
			env: {
				...process.env,
				CGO_ENABLED: "0",
				GOTOOLCHAIN: "local",
				GOFLAGS: "-mod=readonly -buildvcs=false",
			},
		});
	once(stamp, inputs, () => {
		const start = Date.now();
		say(`Building ${name} of ${module} (minutes with an empty Go build cache)`);
		const tests = test ? [] : sources.filter((file) => file.endsWith("_test.go"));
		const tested = new Set(tests.map((file) => `./${relative(folder, dirname(file))}`));
		if (tested.size > 0) go("test", ...tested);
		const how = test ? ["test", "-c", "-vet=off"] : ["build"];
		go(...how, "-trimpath", "-ldflags", flags, "-o", join(top, output), target);
		say(`Built ${name} in ${Math.round((Date.now() - start) / 1000)} s`);
	});
}

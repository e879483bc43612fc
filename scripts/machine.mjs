// The requirements on this machine: root, kernel features, Debian packages. Plain Node.js without
// dependencies, because it runs before node_modules exists.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { Refusal, run, say } from "./step.mjs";

const MINIMUM_KERNEL = [6, 1];
const MINIMUM_NODE = [20, 19];

/** Debian packages by purpose. */
const packages = {
	build: [
		"clang-19",
		"bpftool",
		"libbpf-dev",
		"libelf-dev",
		"zlib1g-dev",
		"linux-libc-dev",
		"cmake",
		"make",
		"gcc",
		"g++",
		"libc6-dev",
		"pkg-config",
		"python3",
		// The addon includes uv.h, which most Node.js builds ship.
		...(existsSync(join(process.execPath, "../../include/node/uv.h")) ? [] : ["libuv1-dev"]),
	],
	check: ["clang-format-19", "git"],
	image: [
		"containernetworking-plugins",
		"coreutils",
		"dash",
		"ethtool",
		"grep",
		"iproute2",
		"libbpf1",
		"libc-bin",
		"mount",
		"nftables",
		"util-linux",
	],
	start: ["iproute2", "ethtool", "iputils-ping", "iperf3"],
	test: [
		"bc",
		"busybox-static",
		"clang-format-19",
		"containerd",
		"containernetworking-plugins",
		"cpio",
		"ethtool",
		"iperf3",
		"iproute2",
		"iptables",
		"iputils-ping",
		"kmod",
		"nftables",
		"openvswitch-switch",
		"ppp",
		"qemu-system-common",
		"qemu-system-x86",
		"runc",
		"socat",
		"tcpdump",
		"traceroute",
		"tshark",
		"wireguard-tools",
	],
	// What the Nodes of test/kubernetes run, and what its images are made of.
	kubernetes: [
		"bash",
		"bind9-dnsutils",
		"busybox-static",
		"containerd",
		"containernetworking-plugins",
		"curl",
		"dash",
		"gcc",
		"iperf",
		"iproute2",
		"iptables",
		"libc6-dev",
		"netcat-openbsd",
		"nftables",
		"openssl",
		"procps",
		"runc",
		"socat",
		"wget",
	],
	// The suite `routing` and the network `kube-router`: a BGP router, and what kube-router runs.
	routing: ["bird2", "ipset", "kmod"],
};

/** @param {string} version @param {number[]} minimum */
function atLeast(version, minimum) {
	const [major = 0, minor = 0] = version
		.replace(/^v/, "")
		.split(".")
		.map((part) => parseInt(part, 10));
	return major > minimum[0] || (major === minimum[0] && minor >= minimum[1]);
}

export function checkNode() {
	if (!atLeast(process.version, MINIMUM_NODE))
		throw new Refusal(
			`Cannot run Fairway: expected Node.js ${MINIMUM_NODE.join(".")} or later, got ${process.version}.`,
		);
}

export function checkRoot() {
	if (process.getuid?.() !== 0)
		throw new Refusal(
			"Cannot load BPF programs and make network namespaces: must run as root (try sudo).",
		);
}

/** Takes the facts as arguments, so that a test can cover each refusal. */
export function kernelRefusal({ platform, version, btf, fileSystems }) {
	if (platform !== "linux") return `Cannot run Fairway: expected Linux, got ${platform}.`;
	if (!atLeast(version, MINIMUM_KERNEL))
		return `Cannot run Fairway: expected a Linux kernel ${MINIMUM_KERNEL.join(".")} or later, got ${version}.`;
	if (!btf)
		return "Cannot run Fairway: the kernel has no BTF (CONFIG_DEBUG_INFO_BTF): /sys/kernel/btf/vmlinux does not exist.";
	if (!/\tbpf$/m.test(fileSystems))
		return "Cannot run Fairway: the kernel has no BPF file system (CONFIG_BPF_SYSCALL): /proc/filesystems does not list bpf.";
	return undefined;
}

export function checkKernel() {
	const linux = process.platform === "linux";
	const refusal = kernelRefusal({
		platform: process.platform,
		version: release(),
		btf: existsSync("/sys/kernel/btf/vmlinux"),
		fileSystems: linux ? readFileSync("/proc/filesystems", "utf8") : "",
	});
	if (refusal) throw new Refusal(refusal);
}

/** The names that dpkg does not list as installed. `status` is dpkg-query's output. */
export function missingFrom(names, status) {
	const installed = new Set(
		status
			.split("\n")
			.filter((line) => line.startsWith("installed "))
			.map((line) => line.slice("installed ".length)),
	);
	return names.filter((name) => !installed.has(name));
}

function dpkgStatus(names) {
	try {
		// Exits with 1 if a name is unknown, but still lists the known ones.
		// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
		return execFileSync("dpkg-query", ["-W", "-f", "${db:Status-Status} ${Package}\n", ...names], {
			encoding: "utf8",
			stdio: ["ignore", "pipe", "ignore"],
		});
	} catch (error) {
		if (error.code === "ENOENT") return undefined;
		return error.stdout ?? "";
	}
}

/** Installs the missing Debian packages for `purposes`. */
export function installPackages(purposes) {
	const wanted = [...new Set(purposes.flatMap((purpose) => packages[purpose]))].sort();
	const status = dpkgStatus(wanted);
	if (status === undefined) {
		say(`This is not a Debian system, so nothing is installed; needed are: ${wanted.join(" ")}`);
		return;
	}
	const missing = missingFrom(wanted, status);
	if (missing.length === 0) return;
	if (process.getuid?.() !== 0)
		throw new Refusal(
			`Cannot install packages: only root can run \`apt-get install ${missing.join(" ")}\`.`,
		);
	say(`Installing ${missing.length} Debian packages that are missing: ${missing.join(" ")}`);
	const apt = (...args) =>
		run("apt-get", ["-q", "-y", "-o", "DPkg::Lock::Timeout=300", ...args], {
			env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
			quiet: true,
		});
	// Always: a fresh machine has no lists, and old lists name files that no longer exist.
	apt("update");
	apt("install", "--no-install-recommends", ...missing);
}

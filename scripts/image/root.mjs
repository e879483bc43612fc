// Fills one folder with the files of the container image. deploy/Dockerfile copies this folder, and the
// archive of `npm run image` packs it, so both have the same files.
//
//   1 directories and accounts   2 Node.js   3 programs that the agent runs   4 the product
//   5 npm packages that it loads   6 CNI plugins for Nodes   7 shared libraries   8 licences
import { spawnSync } from "node:child_process";
import {
	chmodSync,
	copyFileSync,
	existsSync,
	lstatSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	realpathSync,
	renameSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { Failure, filesUnder, fingerprint, once, run, top } from "../step.mjs";

/** Where the product is in the image. */
export const HOME = "opt/fairway";
/** Where `fairway install` finds the plugins that it copies to a Node. */
export const PLUGINS = `${HOME}/cni`;

/**
 * What the agent starts, and what `bin/fairway` itself needs (env); sh with the programs of its scripts.
 * A test compares this list with the programs that src/ names.
 */
export const PROGRAMS = [
	"cat",
	"env",
	"ethtool",
	"flock",
	"grep",
	"ip",
	"mount",
	"nft",
	"nsenter",
	"setpriv",
	"sh",
	"stat",
	"tc",
	"umount",
];

/** Of Debian's containernetworking-plugins: for Nodes that have none. */
const REFERENCE_PLUGINS = ["loopback", "portmap"];
const REFERENCE_DIRECTORY = "/usr/lib/cni";

const ARCHITECTURES = { x64: "amd64", arm64: "arm64" };

/** "amd64", as images name it. */
export function imageArchitecture(arch = process.arch) {
	const name = ARCHITECTURES[arch];
	if (name === undefined)
		throw new Failure(
			`Cannot make an image: expected a machine of ${Object.keys(ARCHITECTURES).join(" or ")}, got ${arch}.`,
		);
	return name;
}

/** Copies files into a folder, with the permissions of an image: 755 what can be run, else 644. */
class Root {
	#folder;
	/** Absolute paths of ELF files on this machine whose libraries are needed. */
	#linked = new Set();
	/** Absolute paths on this machine of what Debian packages own. */
	#packaged = new Set();

	constructor(folder) {
		this.#folder = folder;
	}

	directory(path, mode = 0o755) {
		const whole = join(this.#folder, path);
		mkdirSync(whole, { recursive: true });
		chmodSync(whole, mode);
	}

	link(path, target) {
		this.directory(dirname(path));
		symlinkSync(target, join(this.#folder, path));
	}

	text(path, content) {
		this.directory(dirname(path));
		writeFileSync(join(this.#folder, path), content, { mode: 0o644 });
	}

	file(source, path, { executable = false } = {}) {
		this.directory(dirname(path));
		const whole = join(this.#folder, path);
		copyFileSync(source, whole);
		chmodSync(whole, executable ? 0o755 : 0o644);
	}

	/** A file of the machine that brings its shared libraries. */
	linked(source, path, { executable = true } = {}) {
		this.file(source, path, { executable });
		this.#linked.add(source);
	}

	/** A file of a Debian package. */
	packaged(source, path, { libraries = true } = {}) {
		const real = realpathSync(source);
		if (libraries) this.linked(real, path);
		else this.file(real, path, { executable: true });
		this.#packaged.add(real);
	}

	/** Libraries of all that is linked, with the loader, where the loader looks for them. */
	libraries() {
		const needed = new Map();
		for (const file of this.#linked) {
			const { stdout, status } = spawnSync("ldd", [file], { encoding: "utf8" });
			if (status !== 0 || stdout.includes("not found"))
				throw new Failure(
					`Cannot pack ${file}: expected all of its shared libraries, got ${stdout.trim()}`,
				);
			for (const [, path] of stdout.matchAll(/(?:=>\s+|^\s+)(\/\S+)\s+\(0x/gm))
				needed.set(path.replace(/^\/(lib\w*)\//, "/usr/$1/"), realpathSync(path));
		}
		for (const [path, real] of [...needed].sort()) {
			this.file(real, path.slice(1), { executable: true });
			this.#packaged.add(real);
		}
	}

	/** The licence of each Debian package that a file is from. */
	licences() {
		const names = new Set();
		for (const file of this.#packaged) {
			// dpkg knows files by the paths from before /lib became a link.
			for (const known of [file, file.replace(/^\/usr/, "")]) {
				const { stdout, status } = spawnSync("dpkg-query", ["-S", known], { encoding: "utf8" });
				if (status === 0) names.add(stdout.split(":")[0]);
			}
		}
		for (const name of [...names].sort()) {
			const licence = `/usr/share/doc/${name}/copyright`;
			if (existsSync(licence)) this.file(realpathSync(licence), licence.slice(1));
		}
	}
}

/** Installs the pinned Node.js of this architecture below build/, and returns its package's folder. */
function pinnedNode() {
	const files = ["deploy/node/package.json", "deploy/node/package-lock.json"];
	const folder = join(top, "build/node");
	once(
		"build/node/inputs",
		() => fingerprint(files, process.arch),
		() => {
			rmSync(folder, { recursive: true, force: true });
			mkdirSync(folder, { recursive: true });
			for (const file of [...files, ".npmrc"])
				copyFileSync(join(top, file), join(folder, file.replace(/^deploy\/node\//, "")));
			run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
				cwd: folder,
				quiet: true,
			});
		},
	);
	const installed = join(folder, `node_modules/node-linux-${process.arch}`);
	if (!existsSync(join(installed, "bin/node")))
		throw new Failure(
			`Cannot make an image: expected the package node-linux-${process.arch}, got none for ${process.arch}.`,
		);
	return installed;
}

/** Folders of node_modules that a production install has, from the lock file. */
export function runtimePackages(lock) {
	return Object.entries(lock.packages)
		.filter(
			([path, { dev, optional, devOptional }]) => path !== "" && !(dev || optional || devOptional),
		)
		.map(([path]) => path)
		.sort();
}

/** What a package has for programmers and not for programs. */
const NOT_LOADED = /^(tests?|docs?|benchmarks?|examples?|\.github)\/|\.(md|[cm]?ts|map|flow)$/;

function copyPackages(root) {
	const lock = JSON.parse(readFileSync(join(top, "package-lock.json"), "utf8"));
	for (const folder of runtimePackages(lock)) {
		const all = filesUnder(folder, /./).map((file) => file.slice(folder.length + 1));
		for (const file of all) {
			if (file.startsWith("node_modules/")) continue; // a row of the lock file by itself
			const licence = /^(licen[cs]e|copying|notice)/i.test(file);
			if (licence || !NOT_LOADED.test(file))
				root.file(join(top, folder, file), `${HOME}/${folder}/${file}`);
		}
	}
}

function copyProduct(root) {
	root.file(join(top, "bin/fairway"), `${HOME}/bin/fairway`, { executable: true });
	root.link("usr/local/bin/fairway", `/${HOME}/bin/fairway`);
	for (const file of ["package.json", "LICENSE", "native/index.js", "build/bpf/fairway.bpf.o"])
		root.file(join(top, file), `${HOME}/${file}`);
	// tsc leaves the output of sources that are gone.
	for (const source of filesUnder("src", /\.ts$/)) {
		const file = source.replace(/^src\//, "dist/").replace(/\.ts$/, ".js");
		root.file(join(top, file), `${HOME}/${file}`);
	}
	for (const file of filesUnder("dist/bundle", /\.js$/))
		root.file(join(top, file), `${HOME}/${file}`);
	const addon = "build/Release/fairway.node";
	root.linked(join(top, addon), `${HOME}/${addon}`, { executable: false });
}

function which(program) {
	for (const directory of ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]) {
		const path = join(directory, program);
		if (existsSync(path)) return path;
	}
	throw new Failure(`Cannot make an image: ${program} is not on this machine.`);
}

/** Fills `folder` anew; needs the build, and the Debian packages of purpose "image". */
export function fillRoot(folder) {
	const made = `${folder}.new`;
	rmSync(made, { recursive: true, force: true });
	const root = new Root(made);

	root.directory("");
	for (const name of ["bin", "lib", "lib64", "sbin"]) {
		root.directory(`usr/${name}`);
		root.link(name, `usr/${name}`);
	}
	// Mount points, so that the root file system may be read-only.
	for (const name of [
		"dev",
		"etc/fairway",
		"proc",
		"root",
		"run/fairway",
		"run/netns",
		"sys",
		"var",
	])
		root.directory(name);
	root.directory("tmp", 0o1777);
	root.link("var/run", "/run");
	root.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
	root.text("etc/group", "root:x:0:\n");
	root.text("etc/nsswitch.conf", "hosts: files dns\n");
	// ip names route protocols and tables by these.
	for (const name of readdirSync("/etc/iproute2").sort())
		if (lstatSync(`/etc/iproute2/${name}`).isFile())
			root.file(`/etc/iproute2/${name}`, `etc/iproute2/${name}`);

	const node = pinnedNode();
	root.linked(join(node, "bin/node"), "usr/bin/node");
	root.file(join(node, "LICENSE"), "usr/share/doc/nodejs/copyright");

	for (const program of PROGRAMS) root.packaged(which(program), `usr/bin/${program}`);

	copyProduct(root);
	copyPackages(root);

	root.file(join(top, "bin/fairway-cni"), `${PLUGINS}/fairway-cni`, { executable: true });
	// They run on the Node, with its libraries.
	for (const name of REFERENCE_PLUGINS)
		root.packaged(join(REFERENCE_DIRECTORY, name), `${PLUGINS}/${name}`, { libraries: false });

	root.libraries();
	root.licences();

	rmSync(folder, { recursive: true, force: true });
	renameSync(made, folder);
}

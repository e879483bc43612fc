/** The container runtime's configuration file, and others beside it. */
import {
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { CONFLIST, Conflist, conflistText, removeConflist } from "../../src/cni/conflist.js";
import { until } from "../../src/lab/until.js";

const socket = "/run/fairway/agent.sock";
const parent = mkdtempSync(join(tmpdir(), "fairway-conflist-"));
t.teardown(() => rmSync(parent, { recursive: true, force: true }));

interface Setting {
	dir: string;
	file: string;
	conflist: Conflist;
	logged: string[];
}

function setting(
	t: { name: string; teardown(act: () => Promise<void>): void },
	files: Record<string, unknown> | undefined = {},
): Setting {
	const dir = mkdtempSync(join(parent, "net.d-"));
	for (const [name, content] of Object.entries(files))
		writeFileSync(join(dir, name), typeof content === "string" ? content : JSON.stringify(content));
	const logged: string[] = [];
	const note = (_: object, message: string) => void logged.push(message);
	const conflist = new Conflist({ dir, socket, log: { info: note, warn: note }, pollMs: 50 });
	t.teardown(() => conflist.close());
	return { dir, file: join(dir, CONFLIST), conflist, logged };
}

const read = (file: string) => {
	try {
		return readFileSync(file, "utf8");
	} catch {
		return undefined;
	}
};

t.test("the content", async (t) => {
	t.strictSame(JSON.parse(conflistText(socket)), {
		cniVersion: "1.0.0",
		name: "fairway",
		plugins: [
			{ type: "fairway-cni", socket, capabilities: { bandwidth: true } },
			{ type: "portmap", capabilities: { portMappings: true } },
		],
	});
});

t.test("is written when the Node is ready, and stays when the agent ends", async (t) => {
	const { dir, file, conflist, logged } = setting(t);
	t.same(readdirSync(dir), []);
	conflist.install();
	t.equal(read(file), conflistText(socket));
	t.same(readdirSync(dir), [CONFLIST], "and nothing else");
	t.same(conflist.problems(), []);
	t.same(logged, ["wrote the CNI configuration"]);
	await conflist.close();
	t.equal(read(file), conflistText(socket));
});

t.test("is written again when it is missing or changed", async (t) => {
	const { dir, file, conflist } = setting(t);
	conflist.install();
	const whole = async () => read(file) === conflistText(socket);
	rmSync(file);
	await until("written after its removal", whole);
	writeFileSync(file, "{}");
	await until("written after a change", whole);
	rmSync(dir, { recursive: true });
	await until("written with its directory", whole);
});

t.test("a directory that cannot be written is a problem until it can be", async (t) => {
	const { dir, file, conflist, logged } = setting(t);
	rmSync(dir, { recursive: true });
	writeFileSync(dir, "");
	conflist.install();
	t.match(conflist.problems(), [/^Cannot write .*05-fairway\.conflist: /]);
	rmSync(dir);
	await until("written", async () => read(file) === conflistText(socket));
	t.same(conflist.problems(), []);
	t.equal(logged.filter((line) => line.startsWith("cannot")).length, 1, "said once");
});

t.test("configurations of others", async (t) => {
	const bridge = { name: "cbr0", plugins: [{ type: "flannel" }, { type: "portmap" }] };
	const { dir, conflist } = setting(t, {
		"00-flannel.conflist": bridge,
		"01-broken.conf": "{",
		"02-notes.txt": "",
		"05-fairway.conf": { cniVersion: "1.0.0", name: "old", type: "fairway-cni" },
		"10-fairway.conf": { cniVersion: "1.0.0", name: "fairway", type: "fairway-cni" },
		"10-flannel.conflist": bridge,
		"11-odd.json": [null, 1],
		"12-odd.conflist": { name: "x", plugins: [null, { type: 1 }] },
	});
	mkdirSync(join(dir, "04-directory.conflist"));
	symlinkSync("/dev/zero", join(dir, "03-endless.conf"));
	const first = (file: string, whose: string) =>
		`The container runtime uses ${dir}/${file}${whose} and not ${CONFLIST}, because its name sorts first: remove it or give it a later name.`;
	await until("all seen", async () => conflist.problems().length === 6);
	t.strictSame(conflist.problems(), [
		first("00-flannel.conflist", " (flannel, portmap)"),
		first("01-broken.conf", ""),
		first("03-endless.conf", ""),
		first("04-directory.conflist", ""),
		first("05-fairway.conf", " (fairway-cni)"),
		`${dir}/10-fairway.conf (fairway-cni) names the network "fairway" as ${CONFLIST} does, so the container runtime takes one for the other: remove it.`,
	]);
	for (const file of readdirSync(dir)) rmSync(join(dir, file), { recursive: true });
	await until("none is left", async () => conflist.problems().length === 0);
});

t.test("cleanup removes the file of its own agent only", async (t) => {
	const { dir, file, conflist } = setting(t);
	conflist.install();
	await conflist.close();
	t.equal(removeConflist(dir, "/run/other/agent.sock"), undefined);
	t.equal(read(file), conflistText(socket));
	t.equal(removeConflist(dir, socket), file);
	t.same(readdirSync(dir), []);
	t.equal(removeConflist(dir, socket), undefined);
	writeFileSync(file, JSON.stringify({ name: "fairway", plugins: [{ type: "bridge" }] }));
	t.equal(removeConflist(dir, socket), undefined, "another's under the same name");
});

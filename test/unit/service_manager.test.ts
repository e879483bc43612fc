/** What a service manager is told, and when (sd_notify(3)). */
import { readFileSync } from "node:fs";
import t, { type Test } from "tap";
import { ServiceManager, type ServiceState } from "../../src/agent/service_manager.js";

const SOCKET = "/run/notify";

function begin(t: Test, variables: Record<string, string> = {}) {
	const sent: string[][] = [];
	const warnings: string[] = [];
	const link = { broken: false };
	const say = (_: object, message: string) => void warnings.push(message);
	const environment: Record<string, string> = { PATH: "/bin", NOTIFY_SOCKET: SOCKET, ...variables };
	const manager = ServiceManager.of({
		...{ environment, pid: 42 },
		log: { debug: say, info: say, warn: say, error: say },
		send: (socket, text) => {
			if (link.broken) throw new Error("Resource temporarily unavailable");
			if (socket !== SOCKET || !text.endsWith("\n")) throw new Error(`${socket}: ${text}`);
			sent.push(text.trim().split("\n"));
		},
	});
	t.teardown(() => manager?.stopping());
	const state: ServiceState = { ready: false, words: "waiting for its Node object" };
	const take = () => sent.splice(0);
	return { manager: manager as ServiceManager, environment, state, take, link, warnings };
}

t.test("a start that waits asks for more time, and says what it waits for", async (t) => {
	const { manager, environment, state, take } = begin(t);
	t.same(environment, { PATH: "/bin" }, "children are not told of the socket");
	t.same(take(), [["EXTEND_TIMEOUT_USEC=60000000", "STATUS=starting"]]);
	manager.follow(() => state);
	t.same(take(), [["EXTEND_TIMEOUT_USEC=60000000", "STATUS=waiting for its Node object"]]);
	manager.tick();
	t.same(take(), [["EXTEND_TIMEOUT_USEC=60000000"]], "with each tick");
	Object.assign(state, { ready: true, words: "forwarding\nin mode hybrid" });
	manager.tick();
	t.same(take(), [["READY=1", "STATUS=forwarding in mode hybrid"]], "a status is one line");
	manager.tick();
	t.same(take(), [], "nothing is new");
});

t.test("the watchdog is fed from readiness on, as often as it asks", async (t) => {
	const { manager, state, take } = begin(t, { WATCHDOG_USEC: "30000000", WATCHDOG_PID: "42" });
	manager.follow(() => state);
	take();
	Object.assign(state, { ready: true, words: "starting" });
	const fed = (now: number) => {
		manager.tick(now);
		return take().flat().includes("WATCHDOG=1");
	};
	t.same([0, 5_000, 9_000, 10_000, 15_000, 20_000].map(fed), [
		true,
		false,
		false,
		true,
		false,
		true,
	]);
});

for (const [name, variables] of Object.entries({
	"of another process": { WATCHDOG_USEC: "30000000", WATCHDOG_PID: "43" },
	"that is off": { WATCHDOG_USEC: "0" },
	"that cannot be read": { WATCHDOG_USEC: "soon" },
}))
	t.test(`a watchdog ${name} is not fed`, async (t) => {
		const { manager, take } = begin(t, variables);
		manager.follow(() => ({ ready: true, words: "" }));
		t.notOk(take().flat().includes("WATCHDOG=1"));
	});

t.test("a reload begins and ends, and the end of the agent is announced", async (t) => {
	const { manager, state, take } = begin(t);
	manager.follow(() => ({ ...state, ready: true }));
	take();
	manager.reloading();
	t.match(take(), [["RELOADING=1", /^MONOTONIC_USEC=\d+$/]]);
	manager.reloaded();
	t.same(take(), [["READY=1"]]);
	manager.stopping();
	t.same(take(), [["STOPPING=1", "STATUS=stopping; forwarding continues"]]);
	manager.reloaded();
	t.same(take(), [], "nothing after the end");
});

t.test("what the socket does not take is sent again, with one warning", async (t) => {
	const { manager, state, take, link, warnings } = begin(t);
	take();
	link.broken = true;
	manager.follow(() => ({ ...state, ready: true }));
	manager.tick();
	t.same(warnings, ["cannot tell the service manager"]);
	link.broken = false;
	manager.tick();
	t.same(take(), [["READY=1", "STATUS=waiting for its Node object"]]);
	link.broken = true;
	manager.reloaded();
	link.broken = false;
	manager.tick();
	t.same(take(), [["READY=1"]], "also the end of a reload");
});

t.test("without a socket nobody is told; one that cannot be used is a warning", async (t) => {
	t.equal(begin(t, { NOTIFY_SOCKET: "" }).manager, undefined);
	const { manager, warnings } = begin(t, { NOTIFY_SOCKET: "vsock:2:9" });
	t.equal(manager, undefined);
	t.same(warnings, ["the service manager's socket cannot be used"]);
});

t.test("the unit file asks for what the agent tells", async (t) => {
	const unit = readFileSync("deploy/systemd/fairway.service", "utf8");
	const value = (key: string) => new RegExp(`^${key}=(.*)$`, "m").exec(unit)?.[1] ?? "";
	t.equal(value("Type"), "notify");
	t.equal(value("NotifyAccess"), "main");
	t.ok(Number(value("WatchdogSec")) >= 10, "longer than a start of Node.js on a busy machine");
	t.match(value("ExecReload"), /-HUP \$MAINPID$/);
	t.equal(value("Restart"), "always");
	t.match(value("RuntimeDirectoryPreserve"), "yes", "the run directory outlives the agent");
	t.equal(
		value("CapabilityBoundingSet"),
		"CAP_BPF CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN",
		"those that node/capabilities starts it with",
	);
});

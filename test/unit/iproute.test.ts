/** The wrapper of iproute2: what becomes of processes that fail, hang or cannot be started. */
import t from "tap";
import { IpRoute } from "../../src/linux/iproute.js";

t.test("a process that hangs is killed with all that it has started", async (t) => {
	const ip = new IpRoute(undefined, 200);
	const began = performance.now();
	await t.rejects(ip.command("sh", "-c", "sleep 60 & sleep 60"), {
		name: "IpRouteError",
		message: /^`sh -c .*` failed: ended by SIGKILL \(the limit is 200 ms\)$/,
	});
	// Its pipes are closed: nobody of the group is left.
	t.ok(performance.now() - began < 30_000);
	await t.rejects(
		ip.batch(["link show"]).then(() => ip.inNamespace("/nowhere").query("link")),
		{
			message: /failed: nsenter: /,
		},
	);
	t.equal(ip.inNamespace("/nowhere").timeoutMs, 200);
});

t.test("a blocking look has a limit, too", async (t) => {
	t.same(new IpRoute().querySync("link", "show", "type", "ipip"), []);
	t.throws(() => new IpRoute("/nowhere").querySync("link"), { message: /failed: nsenter: / });
});

t.test("a program that is not there is an error", async (t) => {
	await t.rejects(new IpRoute().command("fairway-no-such-program"), {
		name: "IpRouteError",
		message: /^`fairway-no-such-program ` failed: spawn .* ENOENT$/,
	});
});

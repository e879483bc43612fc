/**
 * Run in an empty network namespace:
 *
 *   a ──veth── b        programs are attached to a; frames are sent into b
 */
import { execFileSync } from "node:child_process";
import { readFileSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { type AttachType, BpfLink, type BpfProgram, clsact, supportsTcx } from "#native";
import { loadObject, pinDirectory } from "../fixture.js";

const LINK_TYPE = { XDP: 6, TCX: 11 };
const ATTACH_TYPE = { tcx_ingress: 46, tcx_egress: 47, xdp_native: 37, xdp_generic: 37 };
const NO_DEVICE = 0x7fff_fff0;

const ip = (command: string) => execFileSync("ip", command.split(" ")).toString();
ip("link add dev a type veth peer name b");
ip("link set dev a up");
ip("link set dev b up");
// Not from /sys, which shows the namespace that it was mounted in.
const { ifindex } = JSON.parse(ip("-json link show dev a"))[0] as { ifindex: number };

const object = loadObject();
const first = object.program("answer_knob");
const second = object.program("emit");
const xdp = object.program("pass_all");
const xdpSecond = object.program("short_only");
const tcx = supportsTcx();
const kernel = readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
const [major = 0, minor = 0] = kernel.split(".").map(Number);
t.comment(`kernel ${kernel}, tcx ${tcx}`);

t.test("supportsTcx", async (t) => {
	t.equal(tcx, major > 6 || (major === 6 && minor >= 6));
});

function links(type: AttachType, before: BpfProgram, after: BpfProgram) {
	t.test(type, async (t) => {
		const link = BpfLink.attach(before, ifindex, type);
		const { id } = link.info;
		t.same(link.info, {
			id,
			type: type.startsWith("tcx") ? LINK_TYPE.TCX : LINK_TYPE.XDP,
			programId: before.info.id,
			ifindex,
			attachType: ATTACH_TYPE[type],
		});
		link.update(after);
		t.match(link.info, { id, programId: after.info.id });

		const path = join(pinDirectory(), type);
		link.pin(path);
		link.close();
		const again = BpfLink.openPinned(path);
		t.match(again.info, { id, programId: after.info.id, ifindex });
		t.equal(BpfLink.openId(id).info.id, id);
		again.detach();
		t.match(again.info, { id, ifindex: 0 }, "the device is gone, the link is not");
		again.close();
		unlinkSync(path);

		const short = BpfLink.attach(before, ifindex, type);
		const held = short.info.id;
		short.close();
		t.throws(() => BpfLink.openId(held), { name: "BpfError", code: "ENOENT" }, "gone when closed");
		// The kernel calls a device that is not there ENODEV for tcx, EINVAL for XDP.
		t.throws(() => BpfLink.attach(before, NO_DEVICE, type), {
			name: "BpfError",
			code: type.startsWith("tcx") ? "ENODEV" : "EINVAL",
		});
	});
}

if (tcx) {
	links("tcx_ingress", first, second);
	links("tcx_egress", first, second);
} else {
	t.test("tcx on a kernel without it", async (t) => {
		t.throws(() => BpfLink.attach(first, ifindex, "tcx_ingress"), {
			name: "BpfError",
			code: "EINVAL",
			message: new RegExp(
				`^Cannot attach program answer_knob to interface ${ifindex} \\(tcx_ingress\\)`,
			),
		});
	});
}
links("xdp_native", xdp, xdpSecond);
links("xdp_generic", xdp, xdpSecond);

t.test("one xdp link per device", async (t) => {
	const link = BpfLink.attach(xdp, ifindex, "xdp_native");
	t.throws(() => BpfLink.attach(xdpSecond, ifindex, "xdp_native"), { code: "EBUSY" });
	t.throws(() => link.update(first), { name: "BpfError", code: "EINVAL" }, "a tc program");
	link.close();
});

t.test("clsact", async (t) => {
	const PRIORITY = 0xfa1c;
	for (const direction of ["ingress", "egress"] as const) {
		const query = (handle = 1) => clsact.query(ifindex, direction, PRIORITY, handle);
		t.equal(query(), undefined, `${direction}: none`);
		t.equal(clsact.detach(ifindex, direction, PRIORITY, 1), false);
		clsact.attach(first, ifindex, direction, PRIORITY, 1);
		t.same(query(), { programId: first.info.id });
		clsact.attach(second, ifindex, direction, PRIORITY, 1);
		t.same(query(), { programId: second.info.id }, "replaced");
		t.equal(query(2), undefined, "another handle");
		const listed = execFileSync("tc", ["filter", "show", "dev", "a", direction]).toString();
		t.match(listed, /pref 64028 bpf chain 0 handle 0x1 .*direct-action/);
		t.equal(listed.match(/ handle /g)?.length, 1, "one filter");
		t.equal(clsact.detach(ifindex, direction, PRIORITY, 1), true);
		t.equal(query(), undefined);
	}
	t.throws(() => clsact.attach(first, NO_DEVICE, "ingress", 1, 1), {
		name: "BpfError",
		code: "ENODEV",
	});
	t.throws(() => clsact.query(NO_DEVICE, "ingress", 1, 1), { name: "BpfError", code: "ENODEV" });
	t.throws(() => clsact.detach(NO_DEVICE, "ingress", 1, 1), { name: "BpfError", code: "ENODEV" });
});

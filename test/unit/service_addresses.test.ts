/** Where Services are: what of their objects becomes routes to the Node's own stack. */
import fc from "fast-check";
import t from "tap";
import { Admission } from "../../src/cluster/admission.js";
import { readObject } from "../../src/cluster/kinds.js";
import { ServiceAddresses } from "../../src/cluster/service_addresses.js";
import type { Kind } from "../../src/cluster/store.js";
import { Store } from "../../src/cluster/store.js";

function put(store: Store, kind: Kind, object: object): void {
	const reading = readObject(kind, object);
	if (!("record" in reading)) throw new Error(JSON.stringify(reading));
	store.update((writer) => writer.put(kind, reading.key, reading.record));
}

function service(name: string, externalIPs: string[], ingress: object[] = []): object {
	const spec = { type: "LoadBalancer", externalIPs };
	return { metadata: { name }, spec, status: { loadBalancer: { ingress } } };
}

t.test(
	"service CIDRs, load balancer and external IPs come and go with their objects",
	async (t) => {
		const store = new Store();
		const admission = new Admission(store);
		const services = () =>
			admission
				.update()
				.services.map(({ text }) => text)
				.join(" ");
		t.equal(services(), "");
		put(store, "ServiceCIDR", {
			metadata: { name: "a" },
			spec: { cidrs: ["10.96.0.0/12", "fd00:96::/112"] },
		});
		put(store, "Service", service("x", ["192.0.2.1"], [{ ip: "FD00::1" }, { hostname: "h" }]));
		put(store, "Service", service("y", ["192.0.2.1"], [{ ip: "192.0.2.3", ipMode: "Proxy" }]));
		t.equal(services(), "10.96.0.0/12 192.0.2.1/32 fd00:96::/112 fd00::1/128");
		const before = admission.update().services;
		put(store, "Service", service("z", []));
		t.equal(admission.update().services, before, "the same while nothing has changed");
		store.update((writer) => writer.remove("Service", "default/x"));
		t.equal(services(), "10.96.0.0/12 192.0.2.1/32 fd00:96::/112", "another still has it");
		store.update((writer) => {
			writer.remove("Service", "default/y");
			writer.remove("ServiceCIDR", "a");
		});
		t.equal(services(), "");
	},
);

t.test("an address of a Node or a Pod cannot be claimed by a Service", async (t) => {
	const store = new Store();
	const admission = new Admission(store);
	const services = () =>
		admission
			.update()
			.services.map(({ text }) => text)
			.join(" ");
	put(store, "Service", service("x", ["192.168.1.1", "10.244.1.7", "192.0.2.1"]));
	t.equal(services(), "10.244.1.7/32 192.0.2.1/32 192.168.1.1/32");
	put(store, "Node", {
		metadata: { name: "n1" },
		spec: { podCIDRs: ["10.244.1.0/24"] },
		status: { addresses: [{ type: "InternalIP", address: "192.168.1.1" }] },
	});
	t.equal(services(), "192.0.2.1/32");
	store.update((writer) => writer.remove("Node", "n1"));
	t.equal(services(), "10.244.1.7/32 192.0.2.1/32 192.168.1.1/32");
});

t.test("Services with more addresses than there is room for leave room for Nodes", async (t) => {
	const store = new Store();
	const admission = new Admission(store);
	const many = Array.from(
		{ length: 17_000 },
		(_, i) => `198.${18 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
	);
	put(store, "Service", service("x", many));
	put(store, "ServiceCIDR", { metadata: { name: "a" }, spec: { cidrs: ["10.96.0.0/12"] } });
	const { services, problems } = admission.update();
	t.equal(services.length, 16_384);
	t.equal(services[0]?.text, "10.96.0.0/12");
	t.match(problems, [{ message: /expected at most 16384, got 17001/ }]);
	put(store, "Service", service("y", []));
	t.equal(admission.update().services, services);
});

t.test("what is read of Services, ServiceCIDRs and Pods", async (t) => {
	const rows: [kind: Kind, object: object, reading: object][] = [
		[
			"Service",
			service("x", ["127.0.0.1"]),
			{ fault: /a unicast address as spec.externalIPs\[0\]/ },
		],
		["Service", service("x", [], [{ ip: "x" }]), { fault: /status.loadBalancer.ingress\[0\].ip/ }],
		[
			"Service",
			{ metadata: { name: "x", namespace: "A/B" } },
			{ key: "", fault: /metadata.namespace, got "A\/B"/ },
		],
		["Service", { metadata: { name: "x" } }, { key: "default/x", record: { externalIPs: [] } }],
		[
			"ServiceCIDR",
			{ metadata: { name: "x" }, spec: { cidrs: ["10.96.0.1/12"] } },
			{ fault: /spec.cidrs\[0\]/ },
		],
		[
			"ServiceCIDR",
			{ metadata: { name: "x" }, spec: { cidrs: ["0.0.0.0/0"] } },
			{ fault: /a part of all addresses/ },
		],
		["ServiceCIDR", { metadata: { name: "x" } }, { record: { cidrs: [] } }],
		[
			"Pod",
			{ metadata: { name: "x" }, status: { podIPs: [{ ip: 5 }] } },
			{ fault: /status.podIPs\[0\].ip/ },
		],
		[
			"Pod",
			{
				metadata: {
					...{ name: "x", namespace: "n", uid: "u", labels: { b: "2", a: "1", c: 5 } },
					annotations: { "kubernetes.io/ingress-bandwidth": "1M" },
				},
				spec: {
					nodeName: "n1",
					containers: [{ ports: [{ name: "http", containerPort: 80 }, { containerPort: 81 }] }],
					initContainers: [
						{
							restartPolicy: "Always",
							ports: [{ name: "side", containerPort: 82, protocol: "UDP" }],
						},
						{ ports: [{ name: "once", containerPort: 83 }] },
					],
				},
				status: { phase: "Failed", podIPs: [{ ip: "10.0.0.1" }, { ip: "FD00::1" }] },
			},
			{
				kind: "Pod",
				key: "n/x",
				record: {
					...{ namespace: "n", name: "x", uid: "u", node: "n1", labels: ["a", "1", "b", "2"] },
					...{ addresses: ["10.0.0.1", "fd00::1"], hostNetwork: false, ended: true },
					ports: [
						{ name: "http", port: 80, protocol: "TCP" },
						{ name: "side", port: 82, protocol: "UDP" },
					],
					limits: ["kubernetes.io/ingress-bandwidth"],
				},
			},
		],
	];
	for (const [kind, object, reading] of rows)
		t.match(readObject(kind, object), reading, JSON.stringify(object));
});

t.test("any order of changes ends in the same order of prefixes", async (t) => {
	const property = fc.property(
		fc.array(
			fc.array(
				fc.record({
					key: fc.integer({ min: 0, max: 5 }),
					isCidr: fc.boolean(),
					// Few, so that objects share them, and go while others come.
					addresses: fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 3 }),
				}),
				{ minLength: 1, maxLength: 4 },
			),
		),
		(rounds) => {
			const store = new Store();
			const addresses = new ServiceAddresses(store);
			const objects = new Map<string, string[]>();
			let before = addresses.update();
			for (const round of rounds) {
				for (const { key, isCidr, addresses } of round) {
					const texts = addresses.map((n) => (isCidr ? `10.${n}.0.0/16` : `192.0.2.${n}`));
					if (isCidr)
						put(store, "ServiceCIDR", { metadata: { name: `${key}` }, spec: { cidrs: texts } });
					else put(store, "Service", service(`${key}`, texts));
					objects.set(`${isCidr} ${key}`, isCidr ? texts : texts.map((one) => `${one}/32`));
				}
				const now = addresses.update();
				const wanted = [...new Set([...objects.values()].flat())].sort((a, b) => {
					const [left, right] = [a, b].map((text) => Number(text.split("/")[1]));
					return left! - right! || (a < b ? -1 : 1);
				});
				if (now.map(({ text }) => text).join() !== wanted.join())
					throw new Error(`expected ${wanted}, got ${now.map(({ text }) => text)}`);
				const same = before.map(({ text }) => text).join() === wanted.join();
				if (same !== (now === before))
					throw new Error("expected the same array while it is the same");
				before = now;
			}
		},
	);
	t.doesNotThrow(() => fc.assert(property, { numRuns: 200 }));
});

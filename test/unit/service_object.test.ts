/** What is read of Services and EndpointSlices, after the API's defaulting. */
import t from "tap";
import { type Reading, readObject, shareRecord } from "../../src/cluster/kinds.js";

const SERVICE = {
	namespace: "default",
	name: "x",
	type: "ClusterIP",
	clusterIPs: [],
	externalIPs: [],
	loadBalancerIPs: [],
	sourceRanges: [],
	ports: [],
	affinitySeconds: 0,
	internalLocal: false,
	externalLocal: false,
	healthCheckNodePort: 0,
	proxyName: undefined,
	isHeadlessLabelled: false,
	selector: [],
	publishNotReadyAddresses: false,
};
const ENDPOINT = {
	address: "10.0.0.1",
	isReady: true,
	isServing: true,
	isTerminating: false,
	node: "",
	zone: "",
	hintZones: [],
	hintNodes: [],
};

function service(spec: object, more: object = {}): Reading<"Service"> {
	return readObject("Service", { metadata: { name: "x" }, spec, ...more });
}

function slice(fields: object): Reading<"EndpointSlice"> {
	return readObject("EndpointSlice", { metadata: { name: "x" }, addressType: "IPv4", ...fields });
}

t.test("a Service with nothing said has the API's defaults", async (t) => {
	t.strictSame(service({}), { kind: "Service", key: "default/x", record: SERVICE });
	t.match(service({ ports: [{ port: 80 }] }), {
		record: { ports: [{ name: "", protocol: 6, port: 80, nodePort: 0, targetPort: 80 }] },
	});
	const affinity = { sessionAffinity: "ClientIP" };
	t.match(service(affinity), { record: { affinitySeconds: 10_800 } });
});

t.test("what Services say", async (t) => {
	const balanced = { type: "LoadBalancer", externalTrafficPolicy: "Local" };
	const port = (fields: object) => ({ port: 80, ...fields });
	const ingress = (...ingress: object[]) => ({ status: { loadBalancer: { ingress } } });
	const rows: [what: string, spec: object, record: object, more?: object][] = [
		["one cluster IP", { clusterIP: "FD00::A" }, { clusterIPs: ["fd00::a"] }],
		[
			"two cluster IPs",
			{ clusterIP: "10.96.0.1", clusterIPs: ["10.96.0.1", "fd00::a"] },
			{ clusterIPs: ["10.96.0.1", "fd00::a"] },
		],
		["a headless Service", { clusterIP: "None", clusterIPs: ["None"] }, { clusterIPs: [] }],
		[
			"an ExternalName has no address, whatever is left of its former type",
			{ type: "ExternalName", clusterIP: "10.96.0.1", selector: { a: "b" } },
			{ type: "ExternalName", clusterIPs: [], selector: [] },
		],
		[
			"NodePorts",
			{ type: "NodePort", ports: [port({ nodePort: 30080, targetPort: "web" })] },
			{ ports: [{ nodePort: 30080, targetPort: "web" }] },
		],
		[
			"the NodePort of a former type means nothing",
			{ ports: [port({ nodePort: 30080 })] },
			{ ports: [{ nodePort: 0 }] },
		],
		[
			"one number for two protocols",
			{
				type: "NodePort",
				ports: [
					port({ name: "t", nodePort: 30080 }),
					port({ name: "u", protocol: "UDP", nodePort: 30080 }),
					port({ name: "s", protocol: "SCTP", targetPort: "81" }),
				],
			},
			{
				ports: [
					{ name: "t", protocol: 6, nodePort: 30080 },
					{ name: "u", protocol: 17, nodePort: 30080 },
					{ name: "s", protocol: 132, targetPort: 81 },
				],
			},
		],
		[
			"load balancer IPs, except those of a proxy and host names",
			balanced,
			{ loadBalancerIPs: ["192.0.2.1", "fd00::1"], externalLocal: true },
			ingress(
				{ ip: "192.0.2.1", ipMode: "VIP" },
				{ ip: "FD00::1" },
				{ ip: "192.0.2.2", ipMode: "Proxy" },
				{ hostname: "h" },
			),
		],
		[
			"load balancer IPs of a former type mean nothing",
			{},
			{ loadBalancerIPs: [] },
			ingress({ ip: "192.0.2.1" }),
		],
		[
			"source ranges with blanks and host bits",
			{ loadBalancerSourceRanges: [" 10.1.2.3/8 ", "FD00::1/16", "0.0.0.0/0"] },
			{ sourceRanges: ["10.0.0.0/8", "fd00::/16", "0.0.0.0/0"] },
		],
		[
			"a health check port",
			{ ...balanced, healthCheckNodePort: 32000 },
			{ healthCheckNodePort: 32000 },
		],
		[
			"a health check port without the policy Local",
			{ ...balanced, externalTrafficPolicy: "Cluster", healthCheckNodePort: 32000 },
			{ healthCheckNodePort: 0 },
		],
		[
			"affinity and policies",
			{
				sessionAffinity: "ClientIP",
				sessionAffinityConfig: { clientIP: { timeoutSeconds: 5 } },
				internalTrafficPolicy: "Local",
				publishNotReadyAddresses: true,
				trafficDistribution: "PreferClose",
				selector: { b: "2", a: "1" },
			},
			{
				affinitySeconds: 5,
				internalLocal: true,
				publishNotReadyAddresses: true,
				trafficDistribution: "PreferSameZone",
				selector: ["a", "1", "b", "2"],
			},
		],
		[
			"labels and age",
			{},
			{ proxyName: "mesh", isHeadlessLabelled: true, uid: "u", created: 1000 },
			{
				metadata: {
					...{ name: "x", uid: "u", creationTimestamp: "1970-01-01T00:00:01Z" },
					labels: {
						"service.kubernetes.io/service-proxy-name": "mesh",
						"service.kubernetes.io/headless": "",
					},
				},
			},
		],
	];
	for (const [what, spec, record, more] of rows) t.match(service(spec, more), { record }, what);
});

t.test("a Service that the API would not have is refused", async (t) => {
	const two = (first: object, second: object) => ({
		type: "NodePort",
		ports: [
			{ name: "a", port: 1, ...first },
			{ name: "b", port: 2, ...second },
		],
	});
	const rows: [spec: object, fault: RegExp][] = [
		[{ type: "Node" }, /^expected one of ClusterIP, .* as spec.type, got "Node"$/],
		[{ clusterIP: "0.0.0.0" }, /^expected a unicast address as spec.clusterIPs\[0\], got 0.0.0.0/],
		[{ clusterIPs: ["10.96.0.1", "10.96.0.2"] }, /^expected at most one of a family/],
		[{ clusterIP: "10.96.0.2", clusterIPs: ["10.96.0.1"] }, /^expected spec.clusterIP as/],
		[{ externalIPs: ["169.254.1.1"] }, /^expected an address beyond one link as spec.externalIPs/],
		[{ ports: [{ port: 0 }] }, /^expected a port from 1 to 65535 as spec.ports\[0\].port, got 0$/],
		[{ ports: [{ port: 1, protocol: "ICMP" }] }, /^expected TCP, UDP or SCTP as/],
		[{ ports: [{ port: 1, targetPort: 70000 }] }, /as spec.ports\[0\].targetPort, got 70000$/],
		[{ ports: [{ name: "a", port: 1 }, { port: 2 }] }, /^expected a name for each of several/],
		[
			two({}, { name: "\u001b[31mred\n" }),
			/^expected a DNS label as spec.ports\[1\].name, got "\\u001b/,
		],
		[two({}, { name: "a" }), /^expected each name among spec.ports once, got "a" twice$/],
		[two({}, { port: 1 }), /^expected each port and protocol among spec.ports once/],
		[two({ nodePort: 3 }, { nodePort: 3 }), /^expected each nodePort and protocol/],
		[{ sessionAffinity: "Cookie" }, /^expected one of None, ClientIP as spec.sessionAffinity/],
		[
			{
				sessionAffinity: "ClientIP",
				sessionAffinityConfig: { clientIP: { timeoutSeconds: 86_401 } },
			},
			/^expected 1 to 86400 as .*timeoutSeconds, got 86401$/,
		],
		[{ internalTrafficPolicy: "Near" }, /^expected one of Cluster, Local as spec.internalTraffic/],
		[{ externalTrafficPolicy: 5 }, /^expected one of Cluster, Local as spec.externalTrafficPolicy/],
		[{ loadBalancerSourceRanges: ["10.0.0.0"] }, /as spec.loadBalancerSourceRanges\[0\]/],
		[{ loadBalancerSourceRanges: ["10.0.0.0/33"] }, /as spec.loadBalancerSourceRanges\[0\]/],
		[{ healthCheckNodePort: "x" }, /as spec.healthCheckNodePort, got "x"$/],
		[{ selector: ["a"] }, /^expected a mapping as spec.selector, got a list$/],
	];
	for (const [spec, fault] of rows) t.match(service(spec), { fault }, JSON.stringify(spec));
	t.match(readObject("Service", { metadata: { name: "x" }, spec: [] }), { fault: /as spec, got/ });
});

t.test("what EndpointSlices say", async (t) => {
	const endpoint = (fields: object) => ({ endpoints: [{ addresses: ["10.0.0.1"], ...fields }] });
	const conditions = (conditions: object) => endpoint({ conditions });
	const rows: [what: string, fields: object, record: object][] = [
		["nothing", {}, { namespace: "default", name: "x", service: "", family: 4, endpoints: [] }],
		[
			"the Service, the namespace and who it is",
			{
				metadata: {
					...{ name: "x", namespace: "n", uid: "u" },
					labels: { "kubernetes.io/service-name": "web" },
				},
			},
			{ namespace: "n", service: "web", uid: "u" },
		],
		[
			"ports; one without a number stands for all, which is none",
			{
				ports: [
					{ port: 80 },
					{ name: "all", port: null },
					{ name: "d", protocol: "UDP", port: 53 },
				],
			},
			{
				ports: [
					{ name: "", protocol: 6, port: 80 },
					{ name: "d", protocol: 17, port: 53 },
				],
			},
		],
		["conditions not said", endpoint({}), { endpoints: [ENDPOINT] }],
		["conditions null", conditions({ ready: null, serving: null }), { endpoints: [ENDPOINT] }],
		[
			"serving as ready",
			conditions({ ready: false }),
			{ endpoints: [{ isReady: false, isServing: false, isTerminating: false }] },
		],
		[
			"serving and terminating",
			conditions({ ready: false, serving: true, terminating: true }),
			{ endpoints: [{ isReady: false, isServing: true, isTerminating: true }] },
		],
		[
			"place, hints and Pod",
			endpoint({
				nodeName: "n1",
				zone: "a",
				hints: { forZones: [{ name: "a" }, { name: "b" }], forNodes: [{ name: "n1" }] },
				targetRef: { kind: "Pod", namespace: "default", name: "web-1" },
			}),
			{
				endpoints: [
					{
						...{ node: "n1", zone: "a", hintZones: ["a", "b"], hintNodes: ["n1"] },
						target: "default/web-1",
					},
				],
			},
		],
		[
			"of several addresses of an endpoint the first counts",
			{ endpoints: [{ addresses: ["10.0.0.1", "10.0.0.2"] }] },
			{ endpoints: [{ address: "10.0.0.1" }] },
		],
		[
			"IPv6",
			{ addressType: "IPv6", endpoints: [{ addresses: ["FD00::1"] }] },
			{ family: 6, endpoints: [{ address: "fd00::1" }] },
		],
		[
			"host names are nothing to send to",
			{ addressType: "FQDN", ports: [{ port: 1 }], endpoints: [{ addresses: ["example.com"] }] },
			{ ports: [], endpoints: [] },
		],
	];
	for (const [what, fields, record] of rows) t.match(slice(fields), { record }, what);
});

t.test("an EndpointSlice with what no endpoint can be is refused", async (t) => {
	const at = (...addresses: unknown[]) => ({ endpoints: [{ addresses }] });
	const rows: [fields: object, fault: RegExp][] = [
		[{ addressType: "IPv5" }, /^expected IPv4, IPv6 or FQDN as addressType, got "IPv5"$/],
		[at(), /^expected an address as endpoints\[0\].addresses, got none$/],
		[at("x"), /^expected an IPv4 or IPv6 address as endpoints\[0\].addresses\[0\], got "x"$/],
		[at("0.0.0.0"), /^expected a unicast address .*, got 0.0.0.0, which is in 0.0.0.0\/8$/],
		[at("127.0.0.1"), /^expected a unicast address .*, which is in 127.0.0.0\/8$/],
		[at("224.0.0.1"), /^expected a unicast address .*, which is in 224.0.0.0\/3$/],
		[at("169.254.169.254"), /^expected an address beyond one link .*, which is in 169.254.0.0\/16/],
		[at("fd00::1"), /^expected an IPv4 address as endpoints\[0\].addresses\[0\], got fd00::1$/],
		[at("10.0.0.1", "fd00::1"), /^expected an IPv4 address as endpoints\[0\].addresses\[1\]/],
		[{ addressType: "IPv6", ...at("::") }, /^expected a unicast address .*, got ::,/],
		[{ addressType: "IPv6", ...at("::1") }, /^expected a unicast address .*, got ::1,/],
		[{ addressType: "IPv6", ...at("ff02::1") }, /^expected a unicast address .*, which is in ff00/],
		[
			{ addressType: "IPv6", ...at("fe80::1") },
			/^expected an address beyond one link .*fe80::\/10/,
		],
		[{ addressType: "IPv6", ...at("::ffff:10.0.0.1") }, /^expected an IPv4 or IPv6 address as/],
		[
			{ endpoints: [{ addresses: ["10.0.0.1"], conditions: { ready: "yes" } }] },
			/conditions.ready/,
		],
		[{ ports: [{ port: 1 }, { port: 2 }] }, /^expected each name among ports once, got "" twice$/],
		[{ ports: [{ port: 65_536 }] }, /^expected a port from 1 to 65535 as ports\[0\].port/],
		[
			{ ports: Array.from({ length: 101 }, (_, i) => ({ name: `p${i}` })) },
			/^expected at most 100/,
		],
		[{ endpoints: Array(1001).fill({}) }, /^expected at most 1000 endpoints, got 1001$/],
	];
	for (const [fields, fault] of rows)
		t.match(slice(fields), { fault }, JSON.stringify(fields).slice(0, 100));
});

t.test("what thousands of records have in common is kept once", async (t) => {
	const recordOf = <R>(reading: R) =>
		(reading as { record: Extract<R, { record: unknown }>["record"] }).record;
	const service1 = recordOf(service({ ports: [{ name: "http", port: 80 }] }));
	const service2 = recordOf(service({ ports: [{ port: 80, name: "http", protocol: "TCP" }] }));
	t.equal(service1.ports, service2.ports);
	t.equal(service1.externalIPs, service1.clusterIPs, "empty lists as well");
	const fields = {
		ports: [{ port: 8080 }],
		endpoints: [{ addresses: ["10.0.0.1"], hints: { forZones: [{ name: "a" }] } }],
	};
	const slice1 = recordOf(slice(fields));
	const slice2 = recordOf(slice(fields));
	t.equal(slice1.ports, slice2.ports);
	t.equal(slice1.endpoints[0]?.hintZones, slice2.endpoints[0]?.hintZones);
	// From the last good set, or another thread.
	const copy = shareRecord("EndpointSlice", JSON.parse(JSON.stringify(slice1)));
	t.strictSame(copy, slice1);
	t.equal(copy.ports, slice1.ports);
	t.equal(copy.endpoints[0]?.hintNodes, slice1.endpoints[0]?.hintNodes);
	const again = shareRecord("Service", JSON.parse(JSON.stringify(service1)));
	t.strictSame(again, service1);
	t.equal(again.ports, service1.ports);
});

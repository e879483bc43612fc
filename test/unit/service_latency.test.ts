/** How long changes of Services take, and how many endpoints they have. */
import t from "tap";
import { readEndpointSlice } from "../../src/cluster/endpoint_slice_object.js";
import { atOnce } from "../../src/loop/turns.js";
import { type CountedService, ServiceCounter } from "../../src/observe/service_counts.js";
import { ServiceLatency, type TimedSlice } from "../../src/observe/service_latency.js";

t.test(
	"the latency counts from what caused a change, else from when it was heard of",
	async (t) => {
		const observed: number[] = [];
		const latency = new ServiceLatency(1000, (seconds) => observed.push(seconds));
		const slices: Record<string, TimedSlice[]> = { a: [{ triggered: 500 }], b: [{}] };
		const apply = (keys: string[], heard: number, done: number) => {
			latency.heard(heard);
			latency.began();
			latency.inForce(keys, (key) => slices[key], done);
			return observed.splice(0);
		};
		t.same(apply(["a", "b"], 1500, 1600), [], "what there was at the start has not changed");
		slices.a = [{ triggered: 500 }, { triggered: 2000 }];
		t.same(apply(["a"], 2400, 2500), [0.5]);
		t.same(apply(["a"], 2600, 2610), [0.01], "the same cause does not count twice");
		t.same(apply(["b"], 3000, 3100), [0.1], "the slice does not say");
		delete slices.a;
		t.same(apply(["a"], 4000, 4020), [0.02], "the Service is gone");
		slices.b = [{ triggered: 9000 }];
		t.same(apply(["b"], 5000, 5001), [0], "another machine's clock is ahead");
		// An apply that fails is begun again; what comes meanwhile belongs to the next one.
		slices.b = [{}];
		latency.heard(6000);
		latency.began();
		latency.heard(6500);
		latency.began();
		latency.inForce(["b"], (key) => slices[key], 7000);
		t.same(observed.splice(0), [1]);
		latency.heard(8000);
		latency.began();
		latency.heard(8005);
		latency.inForce(["b"], (key) => slices[key], 8010);
		t.same(observed.splice(0), [0.01]);
		latency.began();
		latency.inForce(["b"], (key) => slices[key], 8025);
		t.same(observed.splice(0), [0.02]);
	},
);

t.test("an EndpointSlice says when its change was caused", async (t) => {
	const slice = (annotations: object) => ({
		metadata: { name: "s", annotations },
		...{ addressType: "IPv4", endpoints: [], ports: [] },
	});
	const key = "endpoints.kubernetes.io/last-change-trigger-time";
	const { triggered } = readEndpointSlice(slice({ [key]: "2030-01-01T00:00:01.5Z" }));
	t.equal(triggered, Date.UTC(2030, 0, 1, 0, 0, 1, 500));
	for (const bad of [{}, { [key]: "soon" }, { [key]: 7 }])
		t.notOk("triggered" in readEndpointSlice(slice(bad)), JSON.stringify(bad));
});

t.test("Services and endpoints are counted at the cost of what has changed", async (t) => {
	const one = (isReady: boolean, isServing = isReady, isTerminating = false) => ({
		...{ isReady, isServing, isTerminating },
	});
	const views = new Map<string, CountedService>([
		["a", { ports: [{ backends: [one(true), one(false)] }, { backends: [one(false, true)] }] }],
		["b", { ports: [{ backends: [one(true), one(true, true, true)] }] }],
		["others", { ports: [] }],
	]);
	let looks = 0;
	const services = {
		keys: () => views.keys(),
		view: (key: string) => {
			looks++;
			return views.get(key);
		},
	};
	const counter = new ServiceCounter();
	t.equal(atOnce(counter.count()).services, 0);
	counter.note(services, [], true);
	t.strictSame(atOnce(counter.count()), {
		services: 2,
		endpoints: { ready: 2, serving: 1, terminating: 1, unready: 1 },
	});
	looks = 0;
	views.delete("b");
	views.set("c", { ports: [{ backends: [one(true)] }] });
	counter.note(services, ["b", "c"], false);
	t.strictSame(atOnce(counter.count()), {
		services: 2,
		endpoints: { ready: 2, serving: 1, terminating: 0, unready: 1 },
	});
	t.equal(looks, 2);
	views.clear();
	counter.note(services, [], true);
	t.strictSame(atOnce(counter.count()), {
		services: 0,
		endpoints: { ready: 0, serving: 0, terminating: 0, unready: 0 },
	});
});

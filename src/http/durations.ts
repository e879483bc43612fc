/** The histograms of durations, each kept where the durations are measured. */
import type { Described } from "./described.js";

/** Kept in web.ts. */
export const SERVICE_LATENCY: Described & { buckets: number[] } = {
	name: "fairway_service_programming_duration_seconds",
	type: "histogram",
	help: "From the change of a Service or its endpoints to the last write: since the time in the EndpointSlice's annotation endpoints.kubernetes.io/last-change-trigger-time, else since the agent received it.",
	labels: [],
	buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
};

/** Kept in web.ts. */
export const POLICY_LATENCY: Described & { buckets: number[] } = {
	name: "fairway_policy_programming_duration_seconds",
	type: "histogram",
	help: "From the time when the agent received a change of policies, Pods, Namespaces or Nodes to the last write of network policy that it caused.",
	labels: [],
	buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
};

/** Kept in cni_durations.ts. */
export const CNI_DURATION: Described & { buckets: number[] } = {
	name: "fairway_cni_duration_seconds",
	type: "histogram",
	help: "Time that the agent took for a call of the CNI plugin.",
	labels: ["command", "result"],
	buckets: [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10],
};

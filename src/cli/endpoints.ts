/** `fairway endpoints` */
import type { EndpointStatus } from "../api/messages/endpoints.js";
import { type Column, table } from "../text/table.js";
import { EXIT_DONE } from "./exit.js";
import { type ClientOptions, show } from "./output.js";

export async function endpointsCommand(options: ClientOptions): Promise<number> {
	await show<EndpointStatus[]>(options, { method: "GET", path: "/endpoints" }, endpointsText);
	return EXIT_DONE;
}

const COLUMNS: readonly Column<EndpointStatus>[] = [
	{
		heading: "POD",
		cell: ({ namespace, name }) => (name === undefined ? "-" : `${namespace ?? "-"}/${name}`),
	},
	{ heading: "ADDRESSES", cell: (endpoint) => endpoint.addresses.join(",") },
	{ heading: "MAC", cell: (endpoint) => endpoint.mac },
	{ heading: "HOST INTERFACE", cell: (endpoint) => endpoint.hostInterface },
	{ heading: "CONTAINER", cell: (endpoint) => endpoint.containerId.slice(0, 12) },
	{ heading: "IFNAME", cell: (endpoint) => endpoint.ifName },
	{ heading: "NETNS", cell: (endpoint) => endpoint.netns },
];

export function endpointsText(endpoints: readonly EndpointStatus[]): string {
	return endpoints.length === 0 ? "There are no local Pods.\n" : table(COLUMNS, endpoints);
}

/** Routes of Services that an earlier agent left: they stay while not all Services are known. */
import { RouteKind } from "../../tables/generated.js";
import type { HeldServices, Tables } from "../../tables/tables.js";
import type { OwnNode } from "../own_node.js";
import { hostRouteOf } from "./routes.js";

/** Adds them to the tables, unless the prefix has another route. */
export function holdServiceRoutes(
	held: HeldServices,
	own: OwnNode,
	{ routes, hostRoutes }: Pick<Tables, "routes" | "hostRoutes">,
): void {
	for (const [prefix, route] of held.routes) {
		const isOfServices = route.kind === RouteKind.SERVICE || route.kind === RouteKind.STACK;
		if (!isOfServices || routes.has(prefix)) continue;
		routes.set(prefix, route);
		const hostRoute = hostRouteOf(own, prefix, route.kind as RouteKind);
		if (hostRoute !== undefined && !hostRoutes.has(prefix)) hostRoutes.set(prefix, hostRoute);
	}
}

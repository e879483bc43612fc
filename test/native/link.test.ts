/** Links and clsact filters, in a network namespace that ends with the process inside it. */
import { fileURLToPath } from "node:url";
import t from "tap";

const inside = fileURLToPath(new URL("inside/link.ts", import.meta.url));
t.spawn("unshare", ["--net", process.execPath, "--import=tsx", inside], {
	name: "in a network namespace of its own",
});

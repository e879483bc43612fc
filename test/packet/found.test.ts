/** Packets on which the forwarder and the data path once differed; differential.test.ts found them. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import t from "tap";
import { check } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { readRow } from "./row.js";
import { makeNetwork, makeTables } from "./world.js";

const FLOW_SLOTS = 1024;

if (inNamespace(import.meta.url)) {
	makeNetwork();
	const dataPath = new DataPath({ flowSlots: FLOW_SLOTS });
	t.teardown(() => dataPath.close());
	const folder = fileURLToPath(new URL("found/", import.meta.url));
	const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
	t.plan(names.length);
	for (const name of names) {
		t.test(name, async (t) => {
			const { variation, inputs } = readRow(`${folder}${name}`);
			await dataPath.forget();
			const tables = makeTables(FLOW_SLOTS, variation);
			dataPath.write(tables);
			for (const input of inputs) {
				const { differences } = await check(dataPath, tables, input);
				t.same(differences, []);
			}
		});
	}
}

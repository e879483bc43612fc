/**
 * An API server on 127.0.0.1 of the network namespace that this process is started in, for a program that is
 * compared with Fairway: objects come on standard input, one JSON line for each change, and it answers each with a line.
 *
 *   compared_api.ts KUBECONFIG
 */
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { type ApiObject, FakeCluster } from "../../test/tools/fake_api/cluster.js";
import { FakeServer } from "../../test/tools/fake_api/server.js";

export interface Change {
	plural: string;
	put?: ApiObject[];
	remove?: string;
}

const cluster = new FakeCluster();
const server = await new FakeServer(cluster).start();
const data = Buffer.from(server.authority.certificate).toString("base64");
const config = {
	apiVersion: "v1",
	kind: "Config",
	clusters: [{ name: "lab", cluster: { server: server.url, "certificate-authority-data": data } }],
	users: [{ name: "lab", user: { token: "lab" } }],
	contexts: [{ name: "lab", context: { cluster: "lab", user: "lab" } }],
	"current-context": "lab",
};
writeFileSync(process.argv[2]!, JSON.stringify(config));

createInterface({ input: process.stdin })
	.on("line", (line) => {
		const { plural, put = [], remove } = JSON.parse(line) as Change;
		for (const object of put) cluster.put(plural, object);
		if (remove !== undefined) cluster.remove(plural, remove);
		process.stdout.write("{}\n");
	})
	.on("close", () => process.exit());
process.stdout.write("{}\n");

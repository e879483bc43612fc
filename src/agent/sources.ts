/**
 * The desired state, and which parts of it may have changed: configuration file, cluster, kernel network. A
 * change is noted at once, which is cheap and touches nothing; it is read when the next apply asks.
 */
import { isDeepStrictEqual } from "node:util";
import type { Admission } from "../cluster/admission.js";
import type { EndpointSliceObject } from "../cluster/endpoint_slice_object.js";
import type { ServiceCatalogReader } from "../cluster/service_catalog.js";
import type { Snapshot } from "../cluster/snapshot.js";
import type { Source, SourceFacts, Store } from "../cluster/store.js";
import { changedKeys } from "../config/changes.js";
import { type Config, type ConfigResult, formatConfigError } from "../config/config.js";
import { proxyWarnings } from "../config/proxy_rule.js";
import { type ConfigWatch, watchConfig } from "../config/watch.js";
import type { Network } from "../linux/network.js";
import type { Log } from "../text/log.js";
import type { Kernel } from "./kernel.js";

export interface SourcesOptions {
	configFile: string;
	/** The file's present content. */
	config: Config;
	store: Store;
	/** What writes to the store. */
	source: Source;
	admission: Admission;
	kernel: Pick<Kernel, "readNetwork" | "watchNetwork">;
	log: Log;
	/** A configuration is in force from now on. */
	onConfig: (config: Config) => void;
	/** Something may have changed. */
	onChange: () => void;
}

export interface Desired {
	config: Config;
	snapshot: Snapshot;
	network: Network;
	/** Nodes that have come, gone or changed since this was last asked for. */
	changed: ReadonlySet<string>;
	/** Services ("namespace/name") that have come, gone or changed, or whose endpoints have. */
	changedServices: ReadonlySet<string>;
}

export class Sources {
	readonly #options: SourcesOptions;
	readonly #configWatch: ConfigWatch;
	readonly #watches: { close(): void | Promise<void> }[];
	#config: Config;
	#refusedConfig: readonly string[] = [];
	#network: Network | undefined;
	#networkChanged = true;
	#catalog: ServiceCatalogReader | undefined;

	constructor(options: SourcesOptions) {
		const { configFile, config, store, source, kernel, onChange } = options;
		this.#options = options;
		this.#config = config;
		store.listen(onChange);
		this.#configWatch = watchConfig(configFile, (result) => this.#onConfig(result), {
			current: config,
		});
		this.#watches = [source, kernel.watchNetwork(() => this.resync()), this.#configWatch];
	}

	get config(): Config {
		return this.#config;
	}

	/** What is wrong in the file's present content, if that is not in force. */
	get refusedConfig(): readonly string[] {
		return this.#refusedConfig;
	}

	/** Those of a Service; undefined: there is no such Service. */
	slicesOf(service: string): readonly EndpointSliceObject[] | undefined {
		return this.#catalog?.get(service)?.slices;
	}

	clusterFacts(): SourceFacts[] {
		return this.#options.source.facts();
	}

	/** Everything is to be looked at again. */
	resync(): void {
		this.#networkChanged = true;
		this.#options.onChange();
	}

	/** Reads the files again, without waiting for an event of theirs. */
	async reload(): Promise<void> {
		await Promise.all([this.#configWatch.now(), this.#options.source.resync?.()]);
		this.resync();
	}

	/** As it is now. @throws Error when the network cannot be read; the next call tries again */
	async desired(): Promise<Desired> {
		const network = await this.#readNetwork();
		const { admission } = this.#options;
		const snapshot = admission.update();
		this.#catalog = snapshot.catalog;
		const changed = admission.takeChanged();
		const changedServices = admission.takeChangedServices();
		return { config: this.#config, snapshot, network, changed, changedServices };
	}

	async close(): Promise<void> {
		await Promise.all(this.#watches.map((watch) => watch.close()));
	}

	#onConfig(result: ConfigResult): void {
		const { log, onConfig, onChange } = this.#options;
		if ("errors" in result) {
			this.#refusedConfig = result.errors.map(formatConfigError);
			log.error(
				{ errors: this.#refusedConfig },
				"invalid configuration ignored, previous one stays in force",
			);
			return;
		}
		this.#refusedConfig = [];
		const changes = changedKeys(this.#config, result.config);
		this.#config = result.config;
		onConfig(result.config);
		log.info({ changes }, "configuration reloaded");
		for (const warning of proxyWarnings(result.config, process.env))
			log.warn({ warning }, "configuration with a limitation");
		onChange();
	}

	async #readNetwork(): Promise<Network> {
		if (this.#network === undefined || this.#networkChanged) {
			// Reset first, so that a change during reading causes another read.
			this.#networkChanged = false;
			try {
				const before = this.#network;
				const now = await this.#options.kernel.readNetwork();
				// Keep the same object while its content is the same, so that compiled results stay valid.
				this.#network = isDeepStrictEqual(now, before) && before !== undefined ? before : now;
			} catch (error) {
				this.#networkChanged = true;
				throw error;
			}
		}
		return this.#network;
	}
}

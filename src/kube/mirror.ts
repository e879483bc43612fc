/** Keeps the objects of one kind as the API has them; driven by a reflector. */
export interface Mirror {
	/** A complete list begins; until `end`, it is not visible. */
	begin(): void;
	/** One object of the list. */
	list(object: unknown): void;
	/** An object of the list was deleted while the list arrived. */
	unlist(object: unknown): void;
	/** The list is complete: objects that are not in it are removed. Resolves when that is in force. */
	end(): Promise<void>;
	/** An object was added or changed. */
	change(object: unknown): void;
	/** An object is gone; this was its last state. */
	remove(object: unknown): void;
}

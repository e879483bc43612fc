/** What a reflector keeps up to date: the objects of one kind, as the API has them. */
export interface Mirror {
	/** A complete list begins; until `end`, nothing of it is to be seen. */
	begin(): void;
	/** One object of the list. */
	list(object: unknown): void;
	/** One that has gone again while the list came. */
	unlist(object: unknown): void;
	/** The list was complete: what it does not have is gone. Resolves when that is in force. */
	end(): Promise<void>;
	/** An object was added or changed. */
	change(object: unknown): void;
	/** An object is gone; this was its last state. */
	remove(object: unknown): void;
}

/** Numbers for people. Pure. */

/** "1.5 MiB" */
export function bytes(count: number): string {
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let value = count;
	let unit = 0;
	while (value >= 1024 && unit < units.length - 1) {
		value /= 1024;
		unit++;
	}
	return unit === 0 ? `${count} B` : `${value.toFixed(1)} ${units[unit]}`;
}

/** "2d 3h", "3h 4m", "4m 5s", "5s" */
export function duration(seconds: number): string {
	const parts: [number, string][] = [
		[Math.floor(seconds / 86400), "d"],
		[Math.floor(seconds / 3600) % 24, "h"],
		[Math.floor(seconds / 60) % 60, "m"],
		[Math.floor(seconds) % 60, "s"],
	];
	const first = parts.findIndex(([value]) => value > 0);
	if (first === -1) {
		return "0s";
	}
	return parts
		.slice(first, first + 2)
		.map(([value, unit]) => `${value}${unit}`)
		.join(" ");
}

/** "0.21 ms", "12 ms", "-" for null */
export function milliseconds(time: number | null): string {
	if (time === null) return "-";
	return `${time < 10 ? time.toFixed(2) : Math.round(time)} ms`;
}

/** "0%", "2%", "0.3%" of a share from 0 to 1, "-" for null */
export function percent(share: number | null): string {
	if (share === null) return "-";
	const value = share * 100;
	return `${value > 0 && value < 1 ? Math.max(0.1, value).toFixed(1) : Math.round(value)}%`;
}

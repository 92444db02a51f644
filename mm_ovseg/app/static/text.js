/** Numbers as people read them. */

const grouped = new Intl.NumberFormat("en");
const percents = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

/** 0.123 as "12.3%"; "–" for null. */
export const percent = (share) => (share === null ? "–" : percents.format(share));

/** A whole number with separators. */
export const count = (number) => grouped.format(number);

/** Hectares as "0.25 ha" or, from 1000 on, "12.3 km²"; "–" for null. */
export function area(hectares) {
  if (hectares === null) return "–";
  const [value, unit] = hectares < 1000 ? [hectares, "ha"] : [hectares / 100, "km²"];
  return `${new Intl.NumberFormat("en", { maximumSignificantDigits: 3 }).format(value)} ${unit}`;
}

/** Seconds as "0.4 s", "12 s" or "3 min 5 s". */
export function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Bytes as "3.4 MB". */
export function size(bytes) {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

// Words and elements.

/** An element with properties and children; text is always text. */
export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children.filter((child) => child !== undefined));
  return node;
}

const two = (n) => String(n).padStart(2, "0");

/** 14:03:22 */
export function clock(text, millis = false) {
  const time = new Date(text);
  const seconds = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  return millis ? `${seconds}.${String(time.getMilliseconds()).padStart(3, "0")}` : seconds;
}

export function ago(text) {
  const seconds = Math.max(0, (Date.now() - Date.parse(text)) / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(text).toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

/** +3 ms, +1.2 s, +4 min */
export function after(from, to) {
  const millis = Math.max(0, (to - from) / 1000);
  if (millis < 1000) return `+${millis < 10 ? millis.toFixed(1) : Math.round(millis)} ms`;
  if (millis < 60_000) return `+${(millis / 1000).toFixed(1)} s`;
  return `+${Math.round(millis / 60_000)} min`;
}

/** RFC 3339 to microseconds; Date alone stops at milliseconds. */
export function micros(text) {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? "";
  return Math.floor(Date.parse(text) / 1000) * 1_000_000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

// Deliveries outside the inbox: how they stand, when the next attempt is, and what happened to them.

import { element } from "./text.js";

const NAMES = { in_app: "Inbox", webhook: "Webhook", email: "Email" };
const OUTCOMES = { retry: "failed", gone: "gone", rejected: "refused", lost: "lost", skipped: "skipped" };
const LONGEST_EXCERPT = 90;

export const channelName = (kind) => NAMES[kind] ?? kind;

const isOpen = ({ state }) => state === "pending";

/** A notification's deliveries outside the inbox, of all its recipients. */
export function outsideOf(notification) {
  const recipients = notification.recipients?.data ?? [];
  return recipients.flatMap(({ deliveries }) => deliveries).filter(({ channel }) => channel !== "in_app");
}

/** How long until it is worth looking again, in milliseconds; undefined when nothing more happens by itself. */
export function pauseFor(deliveries) {
  const pauses = deliveries.filter(isOpen).map(({ next_at }) => (next_at ? Date.parse(next_at) - Date.now() : 0));
  return pauses.length === 0 ? undefined : Math.min(1500, Math.max(250, Math.min(...pauses)));
}

/**
 * One row for each delivery: channel, address, state, and what comes next. `act` has `again(id)` for a dead letter and
 * `lift(channel, address)` for a suppressed address.
 */
export function drawOutside(deliveries, act) {
  return element("ul", { className: "ways" }, ...deliveries.map((delivery) => row(delivery, act)));
}

function row(delivery, act) {
  const { channel, address, state } = delivery;
  const chip = element("span", { className: "chip" }, state);
  chip.dataset.state = state;
  const item = element(
    "li",
    {},
    element("span", { className: "way-name" }, channelName(channel)),
    element("span", { className: "way-address mono", title: address }, address),
    chip,
    element("span", { className: "way-next" }, ...next(delivery)),
    ...button(delivery, act),
  );
  item.dataset.testid = "outside-delivery";
  item.dataset.channel = channel;
  item.dataset.state = state;
  return item;
}

function next(delivery) {
  const { state, reason, next_at, attempts } = delivery;
  if (!isOpen(delivery)) {
    const count = attempts.length;
    const tries = count > 1 ? `after ${count} attempts` : "";
    return [state === "delivered" || state === "accepted" ? tries : [reason, tries].filter(Boolean).join(", ")];
  }
  if (!next_at) return ["trying now"];
  const timer = element("strong", { className: "countdown" }, countdown(next_at));
  timer.dataset.until = next_at;
  timer.dataset.testid = "next-try";
  timer.setAttribute("role", "timer");
  return [`attempt ${attempts.length + 1} `, timer];
}

function button({ id, channel, address, state, reason }, act) {
  const make = (text, testid, run) => {
    const node = element("button", { type: "button", className: "small" }, text);
    node.dataset.testid = testid;
    node.addEventListener("click", run);
    return [node];
  };
  if (state === "dead") return make("Try again", "redrive", () => act.again(id));
  if (state === "skipped" && reason === "suppressed") return make("Allow again", "lift", () => act.lift(channel, address));
  return [];
}

/** Counts down what is on the page. */
export function tick(root) {
  for (const timer of root.querySelectorAll("[data-until]")) {
    const text = countdown(timer.dataset.until);
    if (timer.textContent !== text) timer.textContent = text;
  }
}

function countdown(at) {
  const seconds = (Date.parse(at) - Date.now()) / 1000;
  if (seconds <= 0) return "now";
  if (seconds < 90) return `in ${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `in ${Math.round(seconds / 60)} min`;
  return `in ${Math.round(seconds / 3600)} h`;
}

/** The steps of a story: each attempt, and how it ended where no attempt says so. */
export function stepsOf(delivery) {
  const name = channelName(delivery.channel);
  const steps = delivery.attempts.map((attempt) => ({
    what: `${name}, attempt ${attempt.number}: ${attempt.outcome ? (OUTCOMES[attempt.outcome] ?? attempt.outcome) : "under way"}`,
    at: attempt.ended_at ?? attempt.started_at,
    why: said(attempt),
    mark: ["delivered", "accepted", "recalled"].includes(attempt.outcome) ? "arrived" : attempt.outcome ? "failed" : "",
  }));
  const ended = delivery.attempts.at(-1)?.ended_at;
  if (delivery.state === "dead") steps.push({ what: `${name}: dead letter`, at: ended, why: delivery.reason, mark: "failed" });
  if (["skipped", "cancelled", "superseded"].includes(delivery.state)) {
    steps.push({ what: `${name}: ${delivery.state}`, at: ended, why: delivery.reason });
  }
  return steps;
}

function said({ reason, status, excerpt }) {
  const words = reason ?? (status ? `answered ${status}` : "");
  const text = excerpt?.trim().slice(0, LONGEST_EXCERPT);
  return [words, text && `“${text}”`].filter(Boolean).join(": ");
}

/** What happened between two looks, in a sentence for those who hear the page; undefined when nothing did. */
export function news(before, after) {
  const sentences = after.flatMap((delivery) => {
    const old = before.find(({ id }) => id === delivery.id);
    const ended = (one) => one?.attempts.filter(({ outcome }) => outcome).length ?? 0;
    if (old && old.state === delivery.state && ended(old) === ended(delivery)) return [];
    const last = delivery.attempts.findLast(({ outcome }) => outcome);
    const name = channelName(delivery.channel);
    if (!isOpen(delivery)) return [`${name}: ${delivery.state}${delivery.reason && delivery.state !== "delivered" ? `, ${delivery.reason}` : ""}.`];
    if (!last) return [];
    return [`${name}: attempt ${last.number} failed, ${last.reason}. Next try ${delivery.next_at ? countdown(delivery.next_at) : "now"}.`];
  });
  return sentences.length === 0 ? undefined : sentences.join(" ");
}

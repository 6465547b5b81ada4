// What became of a notification: GET /v1/notifications/{id}, told as a story.

import { after, clock, element, micros } from "./text.js";

const RECENT = 6;
const DONE = new Set(["cancelled", "expired"]);
const UNTOLD = new Set(["accepted", "planned"]);

export class Trail {
  #session;
  #user;
  #recent = [];
  #selected;
  #shown = new Map();
  #soon;
  #slow;
  #list = document.getElementById("recent");
  #story = document.getElementById("story");
  #id = document.getElementById("trail-id");

  constructor(session) {
    this.#session = session;
    this.#drawEmpty();
  }

  async start(user) {
    this.#user = user;
    const query = new URLSearchParams({ user, limit: String(RECENT) });
    const { data } = await this.#session.request("key", "GET", `/v1/notifications?${query}`);
    for (const { id, content, created_at, state } of data.toReversed()) this.#remember(id, content.title, created_at, state);
    if (data.length > 0) this.select(data[0].id);
    else this.#drawEmpty();
    this.#catchUp();
  }

  /** A notification was just accepted here. */
  sent(id, title) {
    this.#remember(id, title, new Date().toISOString(), "accepted");
    this.select(id);
  }

  select(id) {
    this.#selected = id;
    this.#drawRecent();
    this.refresh();
  }

  /** Something changed: looks again, soon and once. What `arrived` may have been sent elsewhere, by curl. */
  changed(arrived = []) {
    const stranger = arrived.some((id) => !this.#recent.some((known) => known.id === id));
    if (stranger) this.start(this.#user).catch(() => {});
    else this.refresh(60);
  }

  refresh(delay = 0) {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => {
      this.#fetch();
      this.#catchUp();
    }, delay);
  }

  /** The list tells a notification's own state; what its recipient did stands in the notification. */
  async #catchUp() {
    for (const known of this.#recent.filter(({ id, state }) => id !== this.#selected && UNTOLD.has(state))) {
      const notification = await this.#session.request("key", "GET", `/v1/notifications/${known.id}`).catch(() => undefined);
      const state = notification?.recipients?.data[0]?.state;
      if (state) known.state = state;
    }
    this.#drawRecent();
  }

  async #fetch() {
    const id = this.#selected;
    if (!id) return;
    clearTimeout(this.#slow);
    try {
      const notification = await this.#session.request("key", "GET", `/v1/notifications/${id}`);
      if (id !== this.#selected) return;
      this.#draw(notification);
      // The streams tell when to look; this also sees what only the sender does, such as an expiry.
      if (!DONE.has(notification.state) && !document.hidden) this.#slow = setTimeout(() => this.#fetch(), 2500);
    } catch (error) {
      if (error.status === 404) this.#story.replaceChildren(element("p", { className: "hint" }, "It is no longer kept."));
      else this.#slow = setTimeout(() => this.#fetch(), 2500);
    }
  }

  #remember(id, title, at, state) {
    this.#recent = [{ id, title, at, state }, ...this.#recent.filter((known) => known.id !== id)]
      .sort((a, b) => (a.id < b.id ? 1 : -1))
      .slice(0, RECENT);
    this.#drawRecent();
  }

  #drawRecent() {
    const focused = document.activeElement?.dataset?.notificationId;
    this.#list.replaceChildren(
      ...this.#recent.map(({ id, title, at, state }) => {
        const button = element(
          "button",
          { type: "button" },
          element("span", { className: "recent-title" }, title),
          element("span", { className: "recent-time" }, clock(at)),
          element("span", { className: "recent-state" }, state),
        );
        button.dataset.notificationId = id;
        button.setAttribute("aria-current", String(id === this.#selected));
        button.addEventListener("click", () => this.select(id));
        return element("li", {}, button);
      }),
    );
    if (focused) this.#list.querySelector(`[data-notification-id="${CSS.escape(focused)}"]`)?.focus();
  }

  #drawEmpty() {
    this.#story.replaceChildren(element("p", { className: "hint" }, "Send something: its way shows here, step by step."));
  }

  #draw(notification) {
    const [recipient] = notification.recipients?.data ?? [];
    const state = recipient?.state ?? notification.state;
    const known = this.#recent.find(({ id }) => id === notification.id);
    if (known) Object.assign(known, { state, at: notification.created_at });
    this.#drawRecent();
    this.#id.textContent = notification.id;
    const before = this.#shown.get(notification.id) ?? 0;
    const steps = story(notification, recipient);
    this.#shown.set(notification.id, steps.length);
    const head = element("div", { className: "story-head" }, element("h3", {}, notification.content.title), chip(state));
    const accepted = micros(notification.created_at);
    const list = element(
      "ol",
      { className: "steps" },
      ...steps.map(({ what, at, why, answer }, index) => {
        const item = element(
          "li",
          { className: [answer ? "answer" : "", index >= before ? "fresh" : ""].join(" ").trim() },
          element("span", { className: "what" }, what),
          element("span", { className: "when", title: at ? clock(at, true) : "" }, when(accepted, at, index)),
          element("span", { className: "why" }, why ?? ""),
        );
        return item;
      }),
    );
    this.#story.replaceChildren(head, list);
  }
}

const chip = (state) => {
  const node = element("span", { className: "chip" }, state);
  node.dataset.state = state;
  return node;
};

function when(accepted, at, index) {
  if (!at) return "";
  return index === 0 ? clock(at) : after(accepted, micros(at));
}

/** Every decision, attempt and receipt, in the order in which they happened. */
function story(notification, recipient) {
  const steps = [];
  for (const delivery of recipient?.deliveries ?? []) {
    for (const { at, outcome, reason } of delivery.attempts) {
      steps.push({ what: `${channel(delivery.channel)}: ${outcome}`, at, why: reason });
    }
    if (delivery.attempts.length === 0) steps.push({ what: `${channel(delivery.channel)}: ${delivery.state}`, why: delivery.reason });
  }
  for (const topic of notification.topics ?? []) steps.push({ what: `Topic ${topic.topic}`, why: topic.note });
  const acknowledgement = recipient?.acknowledgement;
  for (const { kind, at, device } of recipient?.receipts ?? []) {
    const answer = acknowledgement?.kind === kind;
    steps.push({ what: receipt(kind, device), at, answer, why: answer ? "Answered: the other devices clear." : undefined });
  }
  if (acknowledgement && !steps.some(({ answer }) => answer)) {
    const { kind, at, device } = acknowledgement;
    steps.push({ what: receipt(kind, device), at, answer: true, why: "Answered: the other devices clear." });
  }
  steps.sort((a, b) => (a.at ? micros(a.at) : Infinity) - (b.at ? micros(b.at) : Infinity));
  const waits = Date.parse(notification.send_at) > Date.now() && notification.state === "accepted";
  const first = { what: "Accepted", at: notification.created_at, why: waits ? `Waits until ${clock(notification.send_at)}.` : "Committed and synced." };
  const last = recipient?.reason ? [{ what: recipient.state, why: recipient.reason }] : [];
  return [first, ...steps, ...last];
}

const channel = (name) => ({ in_app: "Inbox" })[name] ?? name;
const receipt = (kind, device) => {
  const word = { delivered: "Delivered", seen: "Seen", read: "Read", dismissed: "Dismissed", acted: "Acted on" }[kind] ?? kind;
  return device ? `${word} ${kind === "delivered" ? "to" : "on"} ${device}` : word;
};

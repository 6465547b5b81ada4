// What became of a notification: GET /v1/notifications/{id}, told as a story.

import { drawOutside, news, outsideOf, pauseFor, stepsOf, tick } from "./outside.js";
import { after, clock, element, micros } from "./text.js";
import { Why } from "./why.js";

const RECENT = 6;
const DONE = new Set(["cancelled", "expired"]);
const UNTOLD = new Set(["accepted", "planned"]);

export class Trail {
  #session;
  #user;
  #recent = [];
  #selected;
  #shown = new Map();
  #drawn = "";
  #outside = new Map();
  #events;
  #why;
  #soon;
  #slow;
  #list = document.getElementById("recent");
  #story = document.getElementById("story");
  #id = document.getElementById("trail-id");

  /** `events`: `say(text)` for what happens outside the inbox, `looked()` after each look. */
  constructor(session, events) {
    this.#session = session;
    this.#events = events;
    this.#why = new Why(session);
    this.#drawEmpty();
    setInterval(() => tick(this.#story), 250);
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
    this.#drawn = "";
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
      if (notification) known.state = this.#stateOf(notification);
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
      const outside = outsideOf(notification);
      this.#tell(id, outside);
      this.#draw(notification, outside);
      this.#events.looked();
      // The streams tell when to look; this also sees what only the sender does, such as an expiry or an attempt.
      const pause = pauseFor(outside) ?? (notification.state === "accepted" ? 250 : 2500);
      if (!DONE.has(notification.state) && !document.hidden) this.#later(pause);
    } catch (error) {
      if (error.status === 404) this.#story.replaceChildren(element("p", { className: "hint" }, "It is no longer kept."));
      else this.#later(2500);
    }
  }

  /** One look is due at a time, whoever asked for it. */
  #later(pause) {
    clearTimeout(this.#slow);
    this.#slow = setTimeout(() => this.#fetch(), pause);
  }

  #recipientOf(notification) {
    return notification.recipients?.data.find(({ user }) => user === this.#user);
  }

  /** What the user did with it; where only addresses were told, what became of the first. */
  #stateOf(notification) {
    return this.#recipientOf(notification)?.state ?? outsideOf(notification)[0]?.state ?? notification.state;
  }

  #tell(id, outside) {
    const before = this.#outside.get(id);
    const text = before && news(before, outside);
    this.#outside.set(id, outside);
    if (text) this.#events.say(text);
  }

  async #act(method, path, body) {
    try {
      await this.#session.request("key", method, path, { body });
    } catch (error) {
      this.#events.say(error.message);
    }
    this.refresh();
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

  #draw(notification, outside) {
    const text = JSON.stringify(notification);
    if (text === this.#drawn) return; // Nothing is new: what has the focus keeps it.
    this.#drawn = text;
    const recipient = this.#recipientOf(notification);
    const state = this.#stateOf(notification);
    const known = this.#recent.find(({ id }) => id === notification.id);
    if (known) Object.assign(known, { state, at: notification.created_at });
    this.#drawRecent();
    this.#id.textContent = notification.id;
    const before = this.#shown.get(notification.id) ?? 0;
    const steps = story(notification, recipient, outside);
    this.#shown.set(notification.id, steps.length);
    const head = element("div", { className: "story-head" }, element("h3", {}, notification.content.title), chip(state));
    const accepted = micros(notification.created_at);
    const list = element(
      "ol",
      { className: "steps" },
      ...steps.map(({ what, at, why, answer, mark }, index) => {
        const item = element(
          "li",
          { className: [answer ? "answer" : (mark ?? ""), index >= before ? "fresh" : ""].join(" ").trim() },
          element("span", { className: "what" }, what),
          element("span", { className: "when", title: at ? clock(at, true) : "" }, when(accepted, at, index)),
          element("span", { className: "why" }, why ?? ""),
        );
        return item;
      }),
    );
    const act = {
      again: (id) => this.#act("POST", "/v1/dead-letters/redrive", { ids: [id] }),
      lift: (kind, address) => this.#act("DELETE", `/v1/suppressions/${kind}/${encodeURIComponent(address)}`),
    };
    const ways = outside.length > 0 ? [drawOutside(outside, act)] : [];
    const focused = document.activeElement?.dataset?.testid;
    const within = this.#story.contains(document.activeElement);
    this.#story.replaceChildren(head, ...ways, list, this.#why.about(notification.id));
    if (within) (this.#story.querySelector(`[data-testid="${CSS.escape(focused ?? "")}"]`) ?? this.#story).focus({ preventScroll: true });
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
function story(notification, recipient, outside) {
  const steps = outside.flatMap(stepsOf);
  for (const delivery of (recipient?.deliveries ?? []).filter(({ channel }) => channel === "in_app")) {
    for (const { started_at, outcome, reason } of delivery.attempts) steps.push({ what: `Inbox: ${outcome}`, at: started_at, why: reason });
    if (delivery.attempts.length === 0) steps.push({ what: `Inbox: ${delivery.state}`, why: delivery.reason });
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

const receipt = (kind, device) => {
  const word = { delivered: "Delivered", seen: "Seen", read: "Read", dismissed: "Dismissed", acted: "Acted on" }[kind] ?? kind;
  return device ? `${word} ${kind === "delivered" ? "to" : "on"} ${device}` : word;
};

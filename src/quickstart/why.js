// Why somebody was, or was not, notified: GET /v1/notifications/{id}/why, read when somebody asks.

import { after, clock, element, micros } from "./text.js";

const RECIPIENTS = 5;
const TIMES = /\b(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/g;

/** A panel below a notification's story, closed at first; it stays open while one goes from notification to notification. */
export class Why {
  #session;
  #id;
  #drawn = "";
  #body = element("div", { className: "why-body" });
  #summary = element("summary", {}, "Why: every decision, typed and in plain words");
  #node = element("details", { className: "why-panel" }, this.#summary, this.#body);

  constructor(session) {
    this.#session = session;
    this.#node.dataset.testid = "why";
    this.#summary.dataset.testid = "why-toggle";
    this.#node.addEventListener("toggle", () => this.#read());
  }

  /** The panel, about this notification from now on. */
  about(id) {
    if (id !== this.#id) {
      this.#id = id;
      this.#drawn = "";
      this.#body.replaceChildren();
    }
    this.#read();
    return this.#node;
  }

  async #read() {
    const id = this.#id;
    if (!this.#node.open || !id) return;
    try {
      const { data, next } = await this.#session.request("key", "GET", `/v1/notifications/${id}/why?limit=${RECIPIENTS}`);
      if (id === this.#id) this.#draw(data, next);
    } catch (error) {
      if (id === this.#id) this.#body.replaceChildren(element("p", { className: "hint" }, error.message));
    }
  }

  #draw(recipients, next) {
    const text = JSON.stringify(recipients);
    if (text === this.#drawn) return;
    this.#drawn = text;
    const parts = recipients.map((recipient) => drawRecipient(recipient, recipients.length > 1));
    if (recipients.length === 0) parts.push(element("p", { className: "hint" }, "Nobody is planned for it yet."));
    if (next) parts.push(element("p", { className: "hint" }, "There are more recipients: carillon why shows them."));
    this.#body.replaceChildren(...parts);
  }
}

function drawRecipient({ user, address, standing, events, truncated }, named) {
  const who = user ?? (address ? `${address.channel} ${address.to}` : "erased");
  const accepted = events[0] ? micros(events[0].at) : 0;
  const list = element("ol", { className: "why-events" }, ...events.map((event, index) => drawEvent(event, index, accepted)));
  return element(
    "section",
    {},
    named ? element("h4", {}, who) : undefined,
    list,
    truncated ? element("p", { className: "hint" }, "Events after the first are left out.") : undefined,
    element("p", { className: "why-standing" }, local(standing)),
  );
}

function drawEvent({ at, kind, text, why }, index, accepted) {
  const chip = element("span", { className: "why-kind" }, kind);
  chip.dataset.kind = kind;
  const item = element(
    "li",
    {},
    element("span", { className: "when", title: clock(at, true) }, index === 0 ? clock(at) : after(accepted, micros(at))),
    chip,
    element("span", { className: "why-text" }, local(text)),
    why ? element("code", { className: "why-reason", title: JSON.stringify(why) }, why.reason) : undefined,
  );
  item.dataset.testid = "why-event";
  item.dataset.kind = kind;
  return item;
}

/** Times as they are here, with their day where that is not today. */
const local = (text) => text.replace(TIMES, (at) => {
  const time = new Date(at);
  if (time.toDateString() === new Date().toDateString()) return clock(at);
  return `${time.toLocaleDateString(undefined, { day: "numeric", month: "short" })} ${clock(at)}`;
});

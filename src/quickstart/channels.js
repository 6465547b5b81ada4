// Over which channels the form sends: what the server has, and an address for each one outside the inbox.

import { element } from "./text.js";
import { channelName } from "./outside.js";

const HINTS = { webhook: "https://", email: "ada@example.org" };

export class ChannelPicker {
  #choices = document.getElementById("channel-choices");
  #addresses = document.getElementById("channel-addresses");
  #typed = new Map(); // What was typed, by channel: it stays when a channel is left out for a while.
  #changed;

  /** `changed()` is called when the choice has changed without an `input` event. */
  constructor(changed) {
    this.#changed = changed;
    this.#choices.addEventListener("change", () => this.#drawAddresses());
    this.#addresses.addEventListener("input", ({ target }) => this.#typed.set(target.dataset.channel, target.value));
  }

  /** Asks the server what it has. `receiver` is the URL of the page's own webhook receiver, if it has one. */
  async start(session, receiver) {
    if (receiver && !this.#typed.has("webhook")) this.#typed.set("webhook", receiver);
    const { data } = await session.request("key", "GET", "/v1/channels");
    for (const { kind } of data) {
      if (this.#choices.querySelector(`[value="${CSS.escape(kind)}"]`)) continue;
      const box = element("input", { type: "checkbox", name: "channel", value: kind });
      box.dataset.testid = `channel-${kind}`;
      this.#choices.append(element("label", { className: "choice" }, box, element("span", {}, channelName(kind))));
    }
    this.#drawAddresses();
    this.#changed();
  }

  /** The request's targets: the user for the inbox, and plain addresses for the rest. */
  targets(user) {
    const targets = this.#chosen().includes("in_app") ? [{ user }] : [];
    for (const field of this.#fields()) targets.push({ address: { channel: field.dataset.channel, to: field.value.trim() } });
    return targets;
  }

  /** The field that a problem's pointer means, if it is one of these. */
  field(pointer) {
    if (pointer === "/targets") return this.#choices.querySelector("input");
    const index = Number(/^\/targets\/(\d+)/.exec(pointer)?.[1] ?? NaN);
    return this.#fields()[index - (this.#chosen().includes("in_app") ? 1 : 0)];
  }

  #chosen() {
    return [...this.#choices.querySelectorAll(":checked")].map(({ value }) => value);
  }

  #fields() {
    return [...this.#addresses.querySelectorAll("input")];
  }

  #drawAddresses() {
    const chosen = this.#chosen().filter((kind) => kind !== "in_app");
    const there = new Map(this.#fields().map((field) => [field.dataset.channel, field.closest(".field")]));
    const rows = chosen.map((kind) => there.get(kind) ?? this.#row(kind));
    this.#addresses.replaceChildren(...rows);
    this.#addresses.hidden = rows.length === 0;
  }

  #row(kind) {
    const field = element("input", {
      type: kind === "email" ? "email" : kind === "webhook" ? "url" : "text",
      value: this.#typed.get(kind) ?? "",
      placeholder: HINTS[kind] ?? "",
      maxLength: 2048,
      spellcheck: false,
    });
    field.dataset.channel = kind;
    field.dataset.testid = `address-${kind}`;
    const label = kind === "webhook" ? "Webhook URL" : `${channelName(kind)} address`;
    return element("label", { className: "field" }, element("span", {}, label), field);
  }
}

// What went over the wire, newest at the bottom.

import { clock, element } from "./text.js";

const LINES = 300;

export class EventLog {
  #list = document.getElementById("log");

  constructor() {
    document.getElementById("log-clear").addEventListener("click", () => this.#list.replaceChildren());
  }

  /** `direction`: → sent, ← received, · neither. */
  add(who, direction, text) {
    const following = this.#list.scrollTop + this.#list.clientHeight > this.#list.scrollHeight - 30;
    const line = element(
      "li",
      {},
      element("span", { className: "t" }, clock(new Date().toISOString(), true)),
      element("span", { className: "who" }, who),
      element("span", { className: "dir" }, direction),
      element("span", { className: "text", title: text }, text),
    );
    this.#list.append(line);
    while (this.#list.childElementCount > LINES) this.#list.firstElementChild.remove();
    if (following) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

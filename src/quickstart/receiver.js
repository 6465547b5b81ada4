// The page's own webhook receiver: told what to answer, it shows what came.

import { clock, element } from "./text.js";

const PATH = "/dev/receiver/standing";

export class Receiver {
  #card = document.getElementById("receiver");
  #last = document.getElementById("receiver-last");
  #log;
  #seen;

  /** `log(direction, text)` tells what came. */
  constructor(log) {
    this.#log = log;
    this.#card.addEventListener("change", ({ target }) => this.#tell(Number(target.value)));
  }

  /** `url` is where it is; without one there is none. */
  start(url) {
    this.#card.hidden = !url;
    document.getElementById("receiver-url").textContent = url ?? "";
    if (url) this.refresh();
  }

  async refresh() {
    if (this.#card.hidden) return;
    const response = await fetch(PATH, { cache: "no-store" }).catch(() => undefined);
    if (response?.ok) this.#draw(await response.json());
  }

  async #tell(answers) {
    const response = await fetch(PATH, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ answers }),
    }).catch(() => undefined);
    if (response?.ok) this.#draw(await response.json());
  }

  /** What came before the page was opened is shown, and not told as news. */
  #draw({ answers, received }) {
    const choice = this.#card.querySelector(`input[value="${answers}"]`);
    if (choice) choice.checked = true;
    const [last] = received;
    if (!last || last.at === this.#seen) {
      this.#seen ??= "";
      return;
    }
    const fresh = received.filter(({ at }) => this.#seen !== undefined && at > this.#seen);
    for (const { event, answered, title } of fresh.toReversed()) this.#log("←", `${event ?? "POST"}  answered ${answered}  ${title ?? ""}`);
    this.#seen = last.at;
    this.#last.replaceChildren(
      element("span", { className: "mono" }, clock(last.at)),
      ` ${last.title ?? last.event ?? "a request"}, answered `,
      element("strong", {}, String(last.answered)),
    );
  }
}

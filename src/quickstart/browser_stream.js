// The browser's side: native EventSource on GET /v1/stream.
//
// EventSource cannot send an Authorization header, so the token is traded for a one-time ticket first. Using the
// ticket also sets a cookie, with which EventSource comes back on its own and tells where it was by `Last-Event-ID`.

import { formatPosition, parsePosition } from "./inbox.js";

const CHANGES = ["added", "replaced", "state_changed", "recalled", "deleted"];

export class BrowserStream {
  #session;
  #handlers;
  #source;
  #retry;
  #attempt = 0;
  #wanted = false;
  #from;

  /** `handlers`: `state(name)`, `change(position, change)`, `gap(reason)`, `log(direction, text)`. */
  constructor(session, handlers) {
    this.#session = session;
    this.#handlers = handlers;
  }

  /** `from` answers the position to start at, whenever a new stream begins. */
  async connect(from) {
    this.#wanted = true;
    this.#from = from;
    this.#handlers.state("connecting");
    let ticket;
    try {
      ({ ticket } = await this.#session.request("browser", "POST", "/v1/stream/tickets", { body: { mode: "ticket" } }));
    } catch (error) {
      return this.#later(error.message);
    }
    if (!this.#wanted || this.#source) return undefined;
    const query = new URLSearchParams({ ticket, device: "browser" });
    const position = from();
    if (position) query.set("last_event_id", formatPosition(position));
    this.#handlers.log("→", `GET /v1/stream${position ? `  from ${formatPosition(position)}` : ""}`);
    this.#listen(new EventSource(`/v1/stream?${query}`));
    return undefined;
  }

  disconnect() {
    this.#wanted = false;
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = undefined;
    this.#handlers.state("cut");
    this.#handlers.log("·", "closed by hand");
  }

  /** `POST /v1/acks`. */
  acknowledge(acks) {
    return this.#session.request("browser", "POST", "/v1/acks", { body: { device: "browser", acks } });
  }

  #listen(source) {
    this.#source = source;
    const on = (name, handle) =>
      source.addEventListener(name, (event) => {
        if (this.#source !== source) return;
        handle(JSON.parse(event.data), event);
      });
    source.onopen = () => {
      this.#attempt = 0;
    };
    on("position", ({ position }) => {
      this.#handlers.log("←", `position  ${position}`);
      this.#handlers.state("live");
    });
    for (const name of CHANGES) {
      on(name, (change, { lastEventId }) => this.#handlers.change(parsePosition(lastEventId), change));
    }
    on("gap", ({ reason, topic }) => {
      if (!topic) this.#handlers.gap(reason);
    });
    on("bye", ({ reason }) => this.#handlers.log("←", `bye  ${reason}`));
    source.onerror = () => {
      if (this.#source !== source || !this.#wanted) return;
      if (source.readyState === EventSource.CONNECTING) {
        this.#handlers.state("waiting"); // The browser comes back by itself.
        return;
      }
      source.close();
      this.#source = undefined;
      this.#later("the stream ended");
    };
  }

  #later(why) {
    if (!this.#wanted) return;
    this.#handlers.state("waiting");
    this.#handlers.log("·", why);
    const delay = Math.min(10_000, 400 * 2 ** this.#attempt++) * (0.7 + 0.6 * Math.random());
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#wanted && this.connect(this.#from), delay);
  }
}

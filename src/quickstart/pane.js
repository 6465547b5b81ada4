// One device on the page: a connection, its copy of the inbox, and how it looks.

import { Inbox, formatPosition, isOpen } from "./inbox.js";
import { ago, clock, element } from "./text.js";

const STATES = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Reconnecting",
  cut: "Disconnected",
  stopped: "Stopped",
};
const SEEN_AFTER = 900;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Pane {
  #root;
  #device;
  #session;
  #connection;
  #parts;
  #inbox = new Inbox();
  #loading;
  #early = [];
  #confirm;
  #events;
  #watch;
  #seen = new Map();
  #loaded = false;

  /**
   * `options`: `device`, `title`, `subtitle`, `testid`, `session`, `open(session, handlers)`, `events` with
   * `log(direction, text)`, `arrived(entry, pane)`, `cleared(entry, pane)`, `changed(arrivedNotificationIds)`,
   * `answering(notificationId)`, `open(count)`, `sentAt(notificationId)`.
   */
  constructor(root, { device, title, subtitle, testid, session, open, events }) {
    this.#root = root;
    this.#device = device;
    this.#session = session;
    this.#events = events;
    root.append(document.getElementById("pane-template").content.cloneNode(true));
    const find = (selector) => root.querySelector(selector);
    this.#parts = {
      bell: find(".pane-bell"),
      count: find(".count"),
      state: find(".state"),
      toggle: find(".toggle"),
      list: find(".entries"),
      empty: find(".empty"),
      answered: find(".answered"),
      position: find(".position"),
    };
    find("h2").textContent = title;
    find("h2").id = root.getAttribute("aria-labelledby");
    find(".pane-name .hint").textContent = subtitle;
    this.#parts.state.dataset.testid = `${testid}-state`;
    this.#parts.toggle.dataset.testid = `${testid}-toggle`;
    this.#parts.answered.dataset.testid = "answered";
    this.#parts.list.setAttribute("aria-label", `${title}: open notifications`);
    this.#parts.toggle.addEventListener("click", () => this.#toggle());
    this.#watch = new IntersectionObserver((items) => this.#looked(items), { threshold: 0.6 });
    this.#connection = open(session, {
      state: (name) => this.#state(name),
      change: (position, change) => this.#change(position, change),
      gap: (reason) => this.#gap(reason),
      log: (direction, text) => events.log(direction, text),
    });
  }

  get device() {
    return this.#device;
  }

  /** Loads the inbox, then follows it from exactly there. */
  async start() {
    this.#state("connecting");
    try {
      await this.#load();
    } catch (error) {
      this.#events.log("·", error.message);
      this.#state("waiting");
      setTimeout(() => this.start(), 1500);
      return;
    }
    await this.#connection.connect(() => this.#inbox.position);
  }

  focus() {
    (this.#parts.list.firstElementChild ?? this.#parts.toggle).focus();
  }

  /** Times written as "2 min ago" age. */
  age() {
    for (const item of this.#parts.list.children) {
      const entry = this.#inbox.get(item.dataset.entryId);
      if (entry) drawMeta(item, entry);
    }
  }

  async #load() {
    this.#loading ??= this.#session.request(this.#device, "GET", "/v1/inbox?limit=100");
    try {
      this.#inbox.load(await this.#loading);
    } finally {
      this.#loading = undefined;
    }
    this.#events.log("←", `GET /v1/inbox  ${this.#inbox.open().length} open, at ${formatPosition(this.#inbox.position)}`);
    this.#drawAll();
    this.#loaded = true;
    const early = this.#early;
    this.#early = [];
    for (const [position, change] of early) this.#change(position, change);
  }

  #change(position, change) {
    if (this.#loading) {
      this.#early.push([position, change]);
      return;
    }
    const done = this.#inbox.apply(position, change);
    if (!done) return;
    if (done.kind === "hole") {
      this.#gap("a hole");
      return;
    }
    this.#events.log("←", `${done.change ?? done.kind}  ${formatPosition(position)}  ${done.entries.map((e) => e.content.title).join(", ")}`);
    this.#drawChange(done);
    this.#confirmSoon();
    const arrived = done.kind === "added" || done.kind === "replaced";
    this.#events.changed(arrived ? done.entries.map((entry) => entry.notification_id) : []);
  }

  async #gap(reason) {
    this.#events.log("←", `gap  ${reason}: reloading the inbox`);
    await this.#load().catch((error) => this.#events.log("·", error.message));
  }

  /** `delivered` is automatic and cumulative: one confirmation covers a burst. */
  #confirmSoon() {
    this.#confirm ??= setTimeout(async () => {
      this.#confirm = undefined;
      const position = formatPosition(this.#inbox.position);
      await this.#ack([{ kind: "delivered", position }], `delivered  ${position}`);
    }, 15);
  }

  async #ack(acks, text) {
    try {
      this.#events.log("→", `ack ${text}`);
      await this.#connection.acknowledge(acks);
      this.#events.changed([]);
      return undefined;
    } catch (error) {
      this.#events.log("·", `ack failed: ${error.message}`);
      return error.message;
    }
  }

  /** Acknowledges an entry as somebody would: the answer comes back as a change, on every device alike. */
  async answer(id, kind, action) {
    const item = this.#item(id);
    const entry = this.#inbox.get(id);
    if (!item || !entry) return;
    item.setAttribute("aria-busy", "true");
    this.#events.answering(entry.notification_id);
    const fault = await this.#ack([{ kind, entry: id, ...(action && { action }) }], `${kind}  ${entry.content.title}`);
    if (fault === undefined) return;
    item.removeAttribute("aria-busy");
    const note = item.querySelector(".entry-meta");
    note.textContent = `Not sent. ${fault}`;
    note.classList.add("not-sent");
  }

  #looked(items) {
    for (const { target, isIntersecting } of items) {
      const id = target.dataset.entryId;
      clearTimeout(this.#seen.get(id));
      this.#seen.delete(id);
      if (!isIntersecting) continue;
      this.#seen.set(id, setTimeout(() => this.#see(id), SEEN_AFTER));
    }
  }

  #see(id) {
    const entry = this.#inbox.get(id);
    if (!entry || entry.seen_at || document.visibilityState !== "visible") return;
    if (this.#root.dataset.connection === "live") this.#ack([{ kind: "seen", entry: id }], `seen  ${entry.content.title}`);
  }

  #toggle() {
    if (["cut", "stopped"].includes(this.#root.dataset.connection)) this.#connection.connect(() => this.#inbox.position);
    else this.#connection.disconnect();
  }

  #state(name) {
    this.#root.dataset.connection = name;
    this.#parts.state.dataset.state = name;
    this.#parts.state.lastElementChild.textContent = STATES[name];
    const off = name === "cut" || name === "stopped";
    this.#parts.toggle.textContent = off ? "Connect" : "Disconnect";
    // What was confirmed or shown while nobody listened is confirmed now.
    if (name === "live" && this.#loaded && this.#inbox.position?.seq > 0) this.#confirmSoon();
  }

  #item(id) {
    return [...this.#parts.list.children].find((item) => item.dataset.entryId === id && !item.dataset.leaving);
  }

  #drawAll() {
    this.#watch.disconnect();
    this.#parts.list.replaceChildren(...this.#inbox.open().map((entry) => this.#drawEntry(entry)));
    this.#drawFrame();
  }

  #drawChange({ kind, change, entries }) {
    for (const entry of entries) {
      const item = this.#item(entry.id);
      const gone = !this.#inbox.get(entry.id) || !isOpen(entry);
      if (gone) {
        if (item) this.#leave(item);
        if (item || kind !== "state_changed") this.#events.cleared(entry, this);
      } else if (kind === "added" || kind === "replaced" || !item) {
        if (item) item.remove();
        this.#enter(this.#drawEntry(entry));
        if (kind !== "state_changed" || change === "unsnoozed") this.#ring(entry);
      } else {
        drawMeta(item, entry);
      }
    }
    this.#drawFrame();
  }

  #drawFrame() {
    const { count, empty, answered, position, list } = this.#parts;
    const open = [...list.children].filter((item) => !item.dataset.leaving).length;
    const done = this.#inbox.answered();
    count.hidden = open === 0;
    count.textContent = String(this.#inbox.counts.unread || open);
    this.#root.dataset.ringing = String(open > 0);
    this.#events.open(open);
    empty.hidden = open > 0;
    answered.querySelector(".answered-count").textContent = String(done.length);
    answered.querySelector("ul").replaceChildren(...done.slice(0, 50).map(drawAnswered));
    const text = this.#inbox.position ? formatPosition(this.#inbox.position) : "";
    if (position.textContent !== text) {
      position.textContent = text;
      position.classList.add("moved");
      requestAnimationFrame(() => requestAnimationFrame(() => position.classList.remove("moved")));
    }
  }

  #drawEntry(entry) {
    const item = document.getElementById("entry-template").content.firstElementChild.cloneNode(true);
    const { title, body, url, actions = [] } = entry.content;
    item.dataset.entryId = entry.id;
    item.dataset.notificationId = entry.notification_id;
    item.dataset.priority = entry.priority;
    item.querySelector("h3").append(link(title, url));
    item.querySelector(".entry-body").textContent = body ?? "";
    item.querySelector(".entry-body").hidden = !body;
    drawMeta(item, entry);
    const buttons = item.querySelector(".entry-buttons");
    for (const action of actions.toReversed()) {
      const button = element("button", { type: "button", className: "small" }, action.title);
      button.dataset.testid = "ack-acted";
      button.addEventListener("click", () => this.answer(entry.id, "acted", action.id));
      buttons.prepend(button);
    }
    buttons.querySelector("[data-testid=ack-read]").addEventListener("click", () => this.answer(entry.id, "read"));
    buttons.querySelector("[data-testid=ack-dismiss]").addEventListener("click", () => this.answer(entry.id, "dismissed"));
    item.addEventListener("keydown", (event) => {
      if (event.target !== item || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "r") this.answer(entry.id, "read");
      if (event.key === "d") this.answer(entry.id, "dismissed");
    });
    this.#watch.observe(item);
    return item;
  }

  #ring(entry) {
    const { bell } = this.#parts;
    bell.classList.remove("strike");
    void bell.getBoundingClientRect(); // Starts the animation over when bells ring in a row.
    bell.classList.add("strike");
    const sent = this.#events.sentAt(entry.notification_id);
    const latency = this.#item(entry.id)?.querySelector(".latency");
    if (sent !== undefined && latency) {
      latency.textContent = `${Math.max(1, Math.round(performance.now() - sent))} ms`;
      latency.title = "From the click on Send to this line";
      latency.hidden = false;
    }
    this.#events.arrived(entry, this);
  }

  #enter(item) {
    this.#parts.list.prepend(item);
    if (calm.matches) return;
    const height = item.offsetHeight;
    item.animate(
      [
        { opacity: 0, height: "0px", paddingBlock: "0px", transform: "translateY(-8px)", borderColor: "var(--accent)" },
        { opacity: 1, height: `${height}px`, transform: "none", borderColor: "var(--accent)", offset: 0.6 },
        { opacity: 1, height: `${height}px`, transform: "none" },
      ],
      { duration: 420, easing: "cubic-bezier(0.2, 0.8, 0.2, 1)" },
    );
  }

  /** The bell falls silent: the entry folds away, and focus goes on to its neighbour. */
  #leave(item) {
    item.dataset.leaving = "true";
    delete item.dataset.testid;
    this.#watch.unobserve(item);
    if (item.contains(document.activeElement)) {
      (item.nextElementSibling ?? item.previousElementSibling ?? this.#parts.toggle).focus({ preventScroll: true });
    }
    if (calm.matches) {
      item.remove();
      return;
    }
    const height = item.offsetHeight;
    const folding = item.animate(
      [
        { opacity: 1, height: `${height}px`, marginBottom: "0px" },
        { opacity: 0, height: `${height}px`, marginBottom: "0px", transform: "scale(0.985)", offset: 0.45 },
        { opacity: 0, height: "0px", paddingBlock: "0px", marginBottom: "-10px", transform: "scale(0.985)" },
      ],
      { duration: 380, easing: "cubic-bezier(0.3, 0.7, 0.2, 1)", fill: "forwards" },
    );
    folding.finished.finally(() => item.remove());
  }
}

function drawAnswered(entry) {
  const { kind, device, at } = entry.acknowledgement ?? { kind: entry.snoozed_until ? "snoozed" : "read", at: entry.updated_at };
  const how = `${kind}${device ? ` on ${device}` : ""}, ${clock(at)}`;
  return element("li", {}, element("span", {}, entry.content.title), element("span", {}, how));
}

function link(title, url) {
  // Only what cannot run: an http(s) address or a path within this site.
  if (!url || !/^(https?:\/\/|\/(?!\/))/.test(url)) return document.createTextNode(title);
  return element("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, title);
}

function drawMeta(item, entry) {
  const note = item.querySelector(".entry-meta");
  note.textContent = meta(entry);
  note.classList.remove("not-sent");
}

const meta = (entry) =>
  [entry.category === "default" ? "" : entry.category, ago(entry.updated_at), entry.seen_at ? "seen" : ""].filter(Boolean).join(" · ");

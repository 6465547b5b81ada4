// The form, and the same request for curl.

import { ChannelPicker } from "./channels.js";
import { DryRun } from "./dry_run.js";

/** Pointers of the API's problems, and the fields they mean. */
const FIELDS = {
  "/content/title": "title",
  "/content/body": "body",
  "/category": "category",
  "/collapse_key": "collapse_key",
  "/content/actions/0/title": "action",
};

export class SendForm {
  #form = document.getElementById("send-form");
  #fault = document.getElementById("send-fault");
  #curl = document.getElementById("curl");
  #session;
  #user = "";
  #key = "";
  #events;
  #dryRun;
  #channels = new ChannelPicker(() => this.#changed());

  /** `events`: `sending()`, `sent(id, title, startedAt)`, `log(direction, text)`. */
  constructor(session, events) {
    this.#session = session;
    this.#events = events;
    this.#dryRun = new DryRun(session);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.#form.addEventListener("input", () => this.#changed());
    document.getElementById("send-dry-run").addEventListener("click", (event) => this.#foresee(event.currentTarget));
    document.getElementById("copy-curl").addEventListener("click", (event) => this.#copy(event.currentTarget));
  }

  async start({ user, key, receiver }) {
    this.#user = user;
    this.#key = key;
    document.getElementById("user-name").textContent = user;
    this.#drawCurl();
    await this.#channels.start(this.#session, receiver);
  }

  focus() {
    this.#form.elements.title.focus();
    this.#form.elements.title.select();
  }

  async submit() {
    const button = this.#form.querySelector("[type=submit]");
    if (button.getAttribute("aria-busy") === "true") return;
    this.#complain();
    button.setAttribute("aria-busy", "true");
    this.#dryRun.clear();
    const body = this.#request(true);
    const started = performance.now();
    try {
      const { id } = await this.#session.request("key", "POST", "/v1/notifications", {
        body,
        headers: { "Idempotency-Key": crypto.randomUUID() },
      });
      this.#events.log("→", `POST /v1/notifications  202 in ${Math.round(performance.now() - started)} ms  ${id}`);
      this.#events.sent(id, body.content.title, started);
    } catch (error) {
      this.#complain(error);
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  async #foresee(button) {
    this.#complain();
    button.setAttribute("aria-busy", "true");
    try {
      await this.#dryRun.show(this.#request(true));
    } catch (error) {
      this.#dryRun.clear();
      this.#complain(error);
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  #changed() {
    this.#dryRun.clear();
    this.#drawCurl();
  }

  #request(now) {
    const value = (name) => this.#form.elements[name].value.trim();
    const delay = Number(value("delay"));
    const action = value("action");
    const text = value("body");
    const priority = value("priority");
    return {
      targets: this.#channels.targets(this.#user),
      ...(value("category") && { category: value("category") }),
      content: {
        title: value("title"),
        ...(text && { body: text }),
        ...(action && { actions: [{ id: "action", title: action }] }),
      },
      ...(priority !== "normal" && { priority }),
      ...(value("collapse_key") && { collapse_key: value("collapse_key") }),
      ...(delay && now && { send_at: new Date(Date.now() + delay * 1000).toISOString() }),
    };
  }

  #complain(error) {
    for (const field of this.#form.elements) field.removeAttribute?.("aria-invalid");
    this.#fault.hidden = !error;
    if (!error) return;
    const details = (error.errors ?? []).map(({ pointer, detail }) => `${pointer}: ${detail}`);
    this.#fault.textContent = [error.message, ...details].join(" ");
    for (const { pointer } of error.errors ?? []) {
      const field = this.#form.elements[FIELDS[pointer]] ?? this.#channels.field(pointer);
      field?.setAttribute("aria-invalid", "true");
      field?.focus();
    }
  }

  #command() {
    const quoted = JSON.stringify(this.#request(false)).replaceAll("'", "'\\''");
    return [
      `curl ${location.origin.replace("http://", "")}/v1/notifications \\`,
      `  -H 'Authorization: Bearer ${this.#key}' \\`,
      "  -H 'Content-Type: application/json' \\",
      `  -d '${quoted}'`,
    ].join("\n");
  }

  #drawCurl() {
    this.#curl.textContent = this.#command();
  }

  async #copy(button) {
    try {
      await navigator.clipboard.writeText(this.#command());
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(this.#curl);
      button.textContent = "Selected";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1600);
  }
}

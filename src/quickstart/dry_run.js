// What a notification would do, before it is sent: POST /v1/notifications?dry_run=true, which writes nothing.

import { clock, element } from "./text.js";

const RECIPIENTS = 5;
const STATES = { starts: "starts now", held: "held", passed: "passed over", later: "later" };

/** A panel below the form: for each recipient the steps of the plan, and what would go where. */
export class DryRun {
  #node = document.getElementById("dry-run");
  #session;

  constructor(session) {
    this.#session = session;
  }

  /** Asks and shows. */
  async show(body) {
    const answer = await this.#session.request("key", "POST", "/v1/notifications?dry_run=true", { body });
    const { recipients, critical } = answer;
    const parts = recipients.slice(0, RECIPIENTS).map((recipient) => drawRecipient(recipient));
    if (recipients.length === 0) parts.push(element("p", { className: "hint" }, "Nobody would get it."));
    if (recipients.length > RECIPIENTS) {
      parts.push(element("p", { className: "hint" }, `And ${recipients.length - RECIPIENTS} more.`));
    }
    const head = critical ? "Nothing was sent. It is critical, and would pass preferences and quiet hours:" : "Nothing was sent. It would go like this:";
    this.#node.replaceChildren(element("p", { className: "hint" }, head), ...parts);
    this.#node.hidden = false;
  }

  /** What is shown is not about the form any more. */
  clear() {
    this.#node.hidden = true;
  }
}

function drawRecipient({ user, address, steps, deliveries }) {
  const left = [...deliveries];
  const drawn = steps.map((step, index) => drawStep(step, index, left));
  const section = element(
    "section",
    {},
    element("h3", {}, user ?? `${address.channel} ${address.to}`),
    element("ol", { className: "dry-steps" }, ...drawn),
  );
  section.dataset.testid = "dry-recipient";
  return section;
}

/** A step, with the deliveries of its channels, which are taken out of `left`. */
function drawStep({ channels, state, why, until }, index, left) {
  const own = left.filter(({ channel }) => channels.includes(channel));
  for (const delivery of own) left.splice(left.indexOf(delivery), 1);
  const chip = element("span", { className: "dry-state" }, STATES[state] ?? state);
  chip.dataset.state = state;
  const item = element(
    "li",
    {},
    element("span", { className: "dry-number" }, String(index + 1)),
    element("span", { className: "dry-channels" }, channels.map((channel) => (channel === "in_app" ? "inbox" : channel)).join(", ")),
    chip,
    element("span", { className: "dry-words" }, words(state, why, until)),
    own.length === 0 ? undefined : element("ul", { className: "dry-deliveries" }, ...own.map(drawDelivery)),
  );
  item.dataset.testid = "dry-step";
  item.dataset.state = state;
  return item;
}

function words(state, why, until) {
  const reason = why?.reason?.replaceAll("_", " ");
  if (state === "starts" && until) return `the next one at ${clock(until)}, unless it is answered`;
  if (until) return `${reason ?? "waits"}, until ${day(until)}`;
  return reason ?? (state === "later" ? "once the ones before are over" : "");
}

function drawDelivery({ channel, address, state, reason, digest, until }) {
  const inbox = channel === "in_app";
  const sent = inbox ? "would show it at once" : "would be sent";
  const gathered = digest ? `waits in the digest ${digest}${until ? ` until ${day(until)}` : ""}` : undefined;
  return element(
    "li",
    {},
    inbox ? "the inbox" : element("span", { className: "mono" }, address),
    element("span", {}, ` ${state === "pending" ? sent : state}`),
    reason || gathered ? element("span", { className: "hint" }, ` ${reason ?? gathered}`) : undefined,
  );
}

/** A time, with its day where that is not today. */
function day(text) {
  const time = new Date(text);
  if (time.toDateString() === new Date().toDateString()) return clock(text);
  return `${time.toLocaleDateString(undefined, { day: "numeric", month: "short" })} ${clock(text)}`;
}

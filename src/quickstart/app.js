// The quickstart page: puts the parts together.

import { AppSocket } from "./app_socket.js";
import { BellTone } from "./bell_tone.js";
import { BrowserStream } from "./browser_stream.js";
import { EventLog } from "./event_log.js";
import { Pane } from "./pane.js";
import { Receiver } from "./receiver.js";
import { SendForm } from "./send_form.js";
import { Session } from "./session.js";
import { Trail } from "./trail.js";

const session = new Session(new URLSearchParams(location.search).get("user") ?? undefined);
const log = new EventLog();
const tone = new BellTone();
const announce = document.getElementById("announce");
const receiver = new Receiver((direction, text) => log.add("receiver", direction, text));
const trail = new Trail(session, {
  say: (text) => (announce.textContent = text),
  looked: () => receiver.refresh(),
});
const sentAt = new Map(); // Notification id -> when Send was clicked, for the latency.
let sendingSince; // A bell can ring before the 202 is read.

const form = new SendForm(session, {
  log: (direction, text) => log.add("backend", direction, text),
  sent: (id, title, started) => {
    sentAt.set(id, started);
    trail.sent(id, title);
  },
});
document.getElementById("send-form").addEventListener("submit", () => (sendingSince = performance.now()), { capture: true });

let said;
const paneEvents = (who) => ({
  log: (direction, text) => log.add(who, direction, text),
  sentAt: (id) => sentAt.get(id) ?? (sendingSince !== undefined && performance.now() - sendingSince < 2000 ? sendingSince : undefined),
  arrived: (entry, pane) => {
    tone.ring(pane.device);
    if (said !== entry.notification_id) {
      said = entry.notification_id;
      announce.textContent = `${entry.content.title} arrived.`;
    }
  },
  cleared: (entry, pane) => {
    const by = entry.acknowledgement?.device;
    if (by && by !== pane.device) announce.textContent = `${entry.content.title}: answered on ${by}, cleared on ${pane.device}.`;
  },
  changed: (arrived) => trail.changed(arrived),
  answering: (id) => trail.select(id),
  open: (count) => {
    document.title = count > 0 ? `(${count}) Carillon quickstart` : "Carillon quickstart";
  },
});

const browser = new Pane(document.getElementById("sse-pane"), {
  device: "browser",
  title: "Browser",
  subtitle: "Server-sent events",
  testid: "sse",
  session,
  open: (...args) => new BrowserStream(...args),
  events: paneEvents("browser"),
});
const app = new Pane(document.getElementById("ws-pane"), {
  device: "app",
  title: "App",
  subtitle: "WebSocket, Centrifugo protocol",
  testid: "ws",
  session,
  open: (...args) => new AppSocket(...args),
  events: paneEvents("app"),
});

async function start() {
  try {
    const current = await session.get();
    receiver.start(current.receiver);
    await Promise.all([form.start(current), browser.start(), app.start(), trail.start(current.user)]);
  } catch (error) {
    log.add("page", "·", error.message);
    setTimeout(start, 1500);
  }
}

setInterval(() => {
  browser.age();
  app.age();
  if (!document.hidden) receiver.refresh();
}, 10_000);
document.addEventListener("visibilitychange", () => document.hidden || trail.refresh());

// Keys
const mac = /Mac|iPhone|iPad/.test(navigator.platform);
for (const hint of document.querySelectorAll("#send-keys, .send-keys")) hint.textContent = mac ? "⌘ ↵" : "Ctrl ↵";
const help = document.getElementById("help");
document.getElementById("help-open").addEventListener("click", () => help.showModal());

function step(by) {
  const entries = [...document.querySelectorAll("[data-testid=entry]")];
  const at = entries.indexOf(document.activeElement?.closest("[data-testid=entry]"));
  const next = at < 0 ? 0 : Math.min(Math.max(at + by, 0), entries.length - 1);
  entries[next]?.focus();
}

const shortcuts = {
  n: () => form.focus(),
  1: () => browser.focus(),
  2: () => app.focus(),
  j: () => step(1),
  k: () => step(-1),
  s: () => tone.toggle(),
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !help.open) {
    event.preventDefault();
    document.getElementById("send-form").requestSubmit();
    return;
  }
  const typing = event.target.closest("input, textarea, select");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const run = shortcuts[event.key];
  if (!run) return;
  event.preventDefault();
  run();
});

start();

// The quickstart page in a real Chromium: two panes, one acknowledgement, light and dark.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

import { Server } from "./server.mjs";

const output = process.env.CARILLON_TEST_OUTPUT ?? "tests/output";
const TIMEOUT = 30_000;

let server;
let browser;

before(async () => {
  mkdirSync(output, { recursive: true });
  // What fails is tried again within seconds, each time.
  const retry = "CARILLON_DISPATCHER__DELIVERY__RETRY__";
  server = await Server.start({ args: ["--dev"], env: { [`${retry}FIRST`]: "4s", [`${retry}FACTOR`]: "1", [`${retry}LONGEST`]: "4s" } });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function open(scheme, viewport = { width: 1280, height: 860 }) {
  const context = await browser.newContext({ colorScheme: scheme, viewport });
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT);
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && page.problems.push(message.text()));
  page.on("request", (request) => {
    if (!request.url().startsWith(server.url) && !request.url().startsWith("data:")) page.problems.push(`asks ${request.url()}`);
  });
  await page.goto(server.url + "/");
  return page;
}

const pane = (page, name) => page.getByTestId(`${name}-pane`);
const entries = (page, name) => pane(page, name).getByTestId("entry");

async function send(page, title, body) {
  await page.getByTestId("send-title").fill(title);
  await page.getByTestId("send-body").fill(body);
  await page.getByTestId("send-submit").click();
}

async function both(page, title) {
  for (const name of ["sse", "ws"]) {
    await entries(page, name).filter({ hasText: title }).first().waitFor({ state: "visible" });
  }
}

const answers = (page, text) => page.getByTestId("receiver").getByText(text).click();
const choose = (page, channel) => page.getByTestId("channels").getByText(channel, { exact: true }).click();
const outside = (page, state) => page.locator(`[data-testid="outside-delivery"][data-state="${state}"]`);

for (const scheme of ["light", "dark"]) {
  test(`a notification rings in both panes, and an answer in one clears the other (${scheme})`, async () => {
    const page = await open(scheme);
    const title = `Build failed (${scheme})`;
    await send(page, title, "main is red");
    await both(page, title);
    await page.screenshot({ path: join(output, `quickstart-${scheme}.png`), fullPage: true });

    const status = page.getByTestId("delivery-status").first();
    await status.filter({ hasText: /delivered/i }).waitFor();

    const id = await entries(page, "sse").filter({ hasText: title }).first().getAttribute("data-entry-id");
    assert.match(id, /^ent_/);
    const there = (name) => pane(page, name).locator(`[data-entry-id="${id}"]`);
    await there("sse").getByTestId("ack-dismiss").click();
    await there("ws").waitFor({ state: "detached" });
    await there("sse").waitFor({ state: "detached" });
    await status.filter({ hasText: /dismissed/i }).waitFor();
    await page.screenshot({ path: join(output, `quickstart-${scheme}-answered.png`), fullPage: true });
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
}

test("reading in the app shows as read in the browser", async () => {
  const page = await open("light");
  await send(page, "Read me", "in the app");
  await both(page, "Read me");
  const id = await entries(page, "ws").filter({ hasText: "Read me" }).first().getAttribute("data-entry-id");
  await pane(page, "ws").locator(`[data-entry-id="${id}"]`).getByTestId("ack-read").click();
  const other = pane(page, "sse").locator(`[data-entry-id="${id}"]`);
  await page.waitForFunction(
    (entry) => {
      const found = document.querySelector(`[data-testid="sse-pane"] [data-entry-id="${entry}"]`);
      return !found || found.dataset.read === "true" || !found.querySelector('[data-testid="ack-read"]:not([disabled])');
    },
    id,
  );
  assert.ok((await other.count()) <= 1);
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

for (const scheme of ["light", "dark"]) {
  test(`a webhook that fails is tried again before one's eyes, until it has arrived (${scheme})`, async () => {
    const page = await open(scheme, { width: 1280, height: 1000 });
    await answers(page, "500 fails");
    await choose(page, "Webhook");
    assert.equal(await page.getByTestId("address-webhook").inputValue(), `${server.url}/dev/receiver`);
    await send(page, "Deploy finished", "4.2 is live");
    await both(page, "Deploy finished");
    await page.getByText("Webhook, attempt 1: failed").waitFor();
    await outside(page, "pending").getByTestId("next-try").filter({ hasText: /in \d+ s/ }).waitFor();
    await page.screenshot({ path: join(output, `quickstart-${scheme}-retry.png`), fullPage: true });

    await answers(page, "200 takes it");
    await outside(page, "delivered").waitFor();
    await page.getByText(/Webhook, attempt \d+: delivered/).waitFor();
    await page.getByTestId("receiver-last").filter({ hasText: "Deploy finished, answered 200" }).waitFor();
    await page.locator("#announce").filter({ hasText: "Webhook: delivered." }).waitFor({ state: "attached" });
    await page.screenshot({ path: join(output, `quickstart-${scheme}-arrived.png`), fullPage: true });
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
}

test("an address that is gone is a dead letter, is not written to again, and is allowed again", async () => {
  const page = await open("light");
  await answers(page, "410 is gone");
  await choose(page, "Inbox");
  await choose(page, "Webhook");
  await send(page, "To nobody", "any more");
  await outside(page, "dead").filter({ hasText: "answered 410" }).waitFor();
  await answers(page, "200 takes it");
  await page.getByTestId("redrive").click();
  await outside(page, "skipped").filter({ hasText: "suppressed" }).waitFor();
  const lifted = page.waitForResponse((answer) => answer.request().method() === "DELETE");
  await page.getByTestId("lift").click();
  assert.equal((await lifted).status(), 204);
  await send(page, "To somebody", "again");
  await outside(page, "delivered").waitFor();
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

for (const scheme of ["light", "dark"]) {
  test(`the page says why: what was decided, tried and answered, in its order (${scheme})`, async () => {
    const page = await open(scheme, { width: 1280, height: 1000 });
    await answers(page, "500 fails");
    await choose(page, "Webhook");
    await send(page, "Disk is full", "on db-1");
    await both(page, "Disk is full");
    await page.getByTestId("why-toggle").click();
    const event = (kind, hasText) => page.locator(`[data-testid="why-event"][data-kind="${kind}"]`).filter({ hasText }).first();
    await event("accepted", "Accepted.").waitFor();
    await event("planned", "the inbox").waitFor();
    await event("tried", "answered 500").waitFor();
    const id = await entries(page, "ws").filter({ hasText: "Disk is full" }).first().getAttribute("data-entry-id");
    await pane(page, "ws").locator(`[data-entry-id="${id}"]`).getByTestId("ack-read").click();
    await event("acknowledged", "read on app").waitFor();
    const timelines = await page.getByTestId("why").locator("ol").evaluateAll((lists) =>
      lists.map((list) => [...list.children].map((item) => item.dataset.kind)));
    assert.equal(timelines.length, 2, "the user, and the webhook's address");
    for (const kinds of timelines) assert.deepEqual(kinds.slice(0, 2), ["accepted", "planned"]);
    const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(excess <= 0, `${excess} pixels too wide`);
    await page.getByTestId("why").scrollIntoViewIfNeeded();
    await page.screenshot({ path: join(output, `why-${scheme}.png`), fullPage: true });
    await page.getByTestId("delivery-status").screenshot({ path: join(output, `why-${scheme}-panel.png`) });
    await answers(page, "200 takes it");
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
}

for (const scheme of ["light", "dark"]) {
  test(`the page says what would happen, step by step, and sends nothing (${scheme})`, async () => {
    const page = await open(scheme, { width: 1280, height: 1000 });
    await choose(page, "Webhook");
    await page.getByTestId("send-title").fill("Only asked");
    await page.getByTestId("send-dry-run").click();
    const shown = page.getByTestId("dry-run");
    await shown.filter({ hasText: "Nothing was sent." }).waitFor();
    const inbox = shown.locator('[data-testid="dry-step"][data-state="starts"]').filter({ hasText: "inbox" });
    await inbox.first().waitFor();
    await shown.getByTestId("dry-step").filter({ hasText: "webhook" }).first().waitFor();
    const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(excess <= 0, `${excess} pixels too wide`);
    await page.getByTestId("send-form").screenshot({ path: join(output, `dry-run-${scheme}-panel.png`) });
    await page.screenshot({ path: join(output, `dry-run-${scheme}.png`), fullPage: true });
    // Another title, another question.
    await page.getByTestId("send-title").fill("Sent after all");
    await shown.waitFor({ state: "hidden" });
    await send(page, "Sent after all", "and only this");
    await both(page, "Sent after all");
    assert.equal(await entries(page, "ws").filter({ hasText: "Only asked" }).count(), 0);
    await page.getByTestId("send-title").fill("");
    await page.getByTestId("send-dry-run").click();
    await page.getByTestId("send-fault").waitFor({ state: "visible" });
    assert.ok(await shown.isHidden(), "a fault shows no plan");
    assert.deepEqual(page.problems.filter((problem) => !problem.includes("422")), []);
    await page.context().close();
  });
}

test("a channel's fault is shown at its field", async () => {
  const page = await open("light");
  await choose(page, "Webhook");
  await page.getByTestId("address-webhook").fill("http://10.0.0.1/hook");
  await page.getByTestId("send-submit").click();
  await page.getByTestId("send-fault").waitFor({ state: "visible" });
  assert.equal(await page.getByTestId("address-webhook").getAttribute("aria-invalid"), "true");
  await page.context().close();
});

test("the page fits a phone, deliveries outside the inbox included", async () => {
  const page = await open("light", { width: 390, height: 844 });
  await choose(page, "Webhook");
  await send(page, "On a phone", "it fits");
  await outside(page, "delivered").waitFor();
  const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(excess <= 0, `${excess} pixels too wide`);
  await page.screenshot({ path: join(output, "quickstart-phone.png"), fullPage: true });
  await page.context().close();
});

test("the page is usable by keyboard alone", async () => {
  const page = await open("light");
  await page.getByTestId("send-title").focus();
  await page.keyboard.type("By keyboard");
  await page.keyboard.press("Enter");
  await both(page, "By keyboard");
  const reached = new Set();
  for (let step = 0; step < 60 && !(reached.has("ack-read") && reached.has("send-submit")); step += 1) {
    await page.keyboard.press("Tab");
    const id = await page.evaluate(() => document.activeElement?.dataset.testid ?? "");
    reached.add(id);
  }
  assert.ok(reached.has("send-submit") && reached.has("ack-read"), `Tab reaches only ${[...reached].join(", ")}`);
  await page.context().close();
});

test("both panes come back by themselves after a restart, with what they missed", async () => {
  const page = await open("light");
  await send(page, "Before", "the restart");
  await both(page, "Before");
  await server.kill();
  await server.run();
  await page.getByTestId("send-title").fill("After");
  await page.getByTestId("send-submit").click();
  await both(page, "After");
  await page.context().close();
});

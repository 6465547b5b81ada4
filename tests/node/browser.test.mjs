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
  server = await Server.start({ args: ["--dev"] });
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

async function open(scheme) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width: 1280, height: 860 } });
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

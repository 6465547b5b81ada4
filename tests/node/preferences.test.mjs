// The page of preferences in a real Chromium, without a script: reached by the link that a worker gets, on a desk and on a phone.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

import { secret } from "./secrets.mjs";
import { Server } from "./server.mjs";

const output = process.env.CARILLON_TEST_OUTPUT ?? "tests/output";
const PUBLIC = "https://bell.example.net";

let server;
let browser;

async function request(method, path, body, key) {
  const answer = await fetch(server.url + path, {
    method,
    headers: { authorization: `Bearer ${key ?? (await server.key())}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

before(async () => {
  mkdirSync(output, { recursive: true });
  server = await Server.start({ env: { CARILLON_SERVER__PUBLIC_URL: PUBLIC } });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  const worker = await server.command("keys", "create", "--name", "sms", "--scope", "channel:sms");
  secret("crk_", worker);
  server.worker = worker;
  await request("PUT", "/v1/channels/sms", {}, worker);
  await request("PUT", "/v1/policy", { time_zone: "Europe/Berlin" });
  const daily = { name: "daily", window: { cron: "0 9 * * *" } };
  const hourly = { name: "hourly", window: { fixed: { every: 3600 } } };
  for (const [name, category] of Object.entries({
    orders: { title: "Orders and deliveries", channels: ["in_app", "sms", "webhook"] },
    news: { title: "News from the shop", channels: ["in_app", "sms"], policy: { digests: [hourly, daily], digest: "daily" } },
    bills: { title: "Bills", channels: ["in_app", "sms"], policy: { may_turn_off: false } },
    codes: { title: "Sign-in codes", channels: ["sms"], critical: true },
  })) await request("PUT", `/v1/categories/${name}`, category);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

// The links in what a worker is to send to `user`.
async function links(user) {
  const phone = `+49${String(user.length).padStart(9, "1")}`;
  await request("PUT", `/v1/users/${user}`, { addresses: [{ channel: "sms", address: phone }] });
  const notification = { targets: [{ user }], category: "orders", channels: ["sms"], content: { title: "On its way" } };
  await request("POST", "/v1/notifications", notification);
  const { data } = await request("POST", "/v1/channels/sms/pull", { limit: 1, wait: 20 }, server.worker);
  const { preferences, unsubscribe } = data[0].message;
  for (const link of [preferences, unsubscribe]) assert.ok(link.startsWith(PUBLIC), link);
  return { preferences: server.url + preferences.slice(PUBLIC.length), unsubscribe: server.url + unsubscribe.slice(PUBLIC.length) };
}

async function open(link, scheme = "light", viewport = { width: 900, height: 1000 }) {
  const context = await browser.newContext({ colorScheme: scheme, viewport, javaScriptEnabled: false, locale: "en-GB" });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.problems = [];
  page.on("console", (message) => message.type() === "error" && page.problems.push(message.text()));
  page.on("request", (request) => request.url().startsWith(server.url) || page.problems.push(`asks ${request.url()}`));
  page.first = await page.goto(link);
  return page;
}

const card = (page, title) => page.getByRole("group", { name: title, exact: true });
const channel = (page, title, name) => card(page, title).getByRole("switch", { name });
const choices = (user) => fetch(`${server.url}/v1/users/${user}/preferences`, { headers: { authorization: `Bearer ${server.apiKey}` } })
  .then((answer) => answer.json());

test("what somebody chooses without login or script is saved and shown again", async () => {
  const page = await open((await links("ada")).preferences);
  const headers = page.first.headers();
  assert.match(headers["content-security-policy"], /^default-src 'none'/);
  assert.equal(headers["x-robots-tag"], "noindex");
  await channel(page, "Orders and deliveries", "SMS").uncheck();
  await card(page, "News from the shop").getByRole("combobox").selectOption({ label: "Hourly digest" });
  assert.ok(await channel(page, "Bills", "SMS").isDisabled());
  assert.ok(await channel(page, "Sign-in codes", "SMS").isDisabled());
  const quiet = card(page, "Be quiet");
  await quiet.getByLabel("From").fill("22:00");
  await quiet.getByLabel("To").fill("07:00");
  for (const day of ["Sat", "Sun"]) await quiet.getByRole("checkbox", { name: day }).uncheck();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("status").filter({ hasText: "Saved" }).waitFor();

  assert.equal(await channel(page, "Orders and deliveries", "SMS").isChecked(), false);
  assert.equal(await channel(page, "Orders and deliveries", "Webhook").isChecked(), true);
  await card(page, "Quiet from 22:00 to 07:00").waitFor();
  const { preferences } = await choices("ada");
  assert.deepEqual(preferences.map(({ category, channel, enabled, digest }) => [category, channel, enabled, digest]), [
    ["news", null, null, "hourly"],
    ["orders", "sms", false, null],
  ]);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    await picture(page, `preferences-${scheme}.png`);
  }
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

// The whole page as one screen shows it: the bar with the button stays at the lower edge of the window.
async function picture(page, name) {
  const before = page.viewportSize();
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: before.width, height });
  await page.screenshot({ path: join(output, name) });
  await page.setViewportSize(before);
}

test("what is wrong is said at its field, and nothing that was filled in is lost", async () => {
  const page = await open((await links("grace")).preferences);
  await channel(page, "Orders and deliveries", "SMS").uncheck();
  await card(page, "Be quiet").getByLabel("From").fill("22:00");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("alert").waitFor();
  const from = page.getByLabel("From", { exact: true }).first();
  assert.equal(await from.inputValue(), "22:00");
  assert.equal(await from.getAttribute("aria-invalid"), "true");
  assert.equal(await channel(page, "Orders and deliveries", "SMS").isChecked(), false);
  assert.deepEqual((await choices("grace")).preferences, []);
  await page.context().close();
});

test("the page fits a phone, works by keyboard, and is linked from the unsubscribe page", async () => {
  const page = await open((await links("linus")).unsubscribe, "light", { width: 390, height: 844 });
  await page.screenshot({ path: join(output, "unsubscribe-phone.png") });
  await page.getByRole("link", { name: "Choose everything that you get" }).click();
  await page.getByRole("heading", { name: "What you get" }).waitFor();
  const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(excess <= 0, `${excess} pixels too wide`);
  await picture(page, "preferences-phone.png");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  await page.keyboard.press("Enter");
  await page.getByRole("status").waitFor();
  assert.equal((await choices("linus")).preferences.length, 1, "the first switch was turned by keyboard");
  await page.context().close();
});

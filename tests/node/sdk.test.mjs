// The official `centrifuge` package, as npm gives it, against the real server.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, test } from "node:test";

import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

import { CuttingProxy } from "./cutting-proxy.mjs";
import { Server, eventually } from "./server.mjs";

const SECRET = "a-shared-secret-of-thirty-two-bytes-or-more";
const INBOX = "carillon:inbox";

let server;
const clients = [];

before(async () => {
  server = await Server.start({ env: { CARILLON_AUTH__HMAC_SECRET: SECRET } });
});

after(async () => {
  for (const client of clients) client.disconnect();
  await server.stop();
});

function client(options, port = server.port) {
  const made = new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`, {
    websocket: WebSocket,
    minReconnectDelay: 20,
    maxReconnectDelay: 200,
    ...options,
  });
  made.received = [];
  made.connections = [];
  made.on("publication", (event) => made.received.push(event));
  made.on("connected", (event) => made.connections.push(event));
  clients.push(made);
  return made;
}

function hs256(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

const titles = (made) => made.received.filter((event) => event.channel === INBOX).map((event) => event.data.entry?.content.title);

async function ready(made) {
  made.connect();
  await made.ready(30_000);
}

test("with our own token the inbox is subscribed by the server and receives", async () => {
  const phone = client({ token: await server.token({ user: "ada" }), data: { device: "phone" } });
  await ready(phone);
  const id = await server.ring("ada", "Build failed");
  const event = await eventually("the publication", () => phone.received[0]);
  assert.equal(event.channel, INBOX);
  assert.equal(event.data.type, "added");
  assert.equal(event.data.entry.notification_id, id);
  assert.equal(event.data.entry.content.title, "Build failed");
  assert.equal(event.offset, 1);
});

test("an rpc acknowledges, and the other device hears of it", async () => {
  const token = await server.token({ user: "bob" });
  const phone = client({ token, data: { device: "phone" } });
  const laptop = client({ token, data: { device: "laptop" } });
  await Promise.all([ready(phone), ready(laptop)]);
  await server.ring("bob", "Deploy?");
  const added = await eventually("the publication", () => phone.received[0]);
  const answer = await phone.rpc("carillon.ack", { acks: [{ kind: "read", entry: added.data.entry.id }] });
  assert.deepEqual(answer.data.results, [{ status: "ok" }]);
  const cleared = await eventually("the change", () => laptop.received.find((event) => event.data.type === "state_changed"));
  assert.equal(cleared.data.change, "read");
  assert.equal(cleared.data.acknowledgement.device, "phone");
  await assert.rejects(phone.rpc("nothing", {}), (error) => error.code === 104);
});

test("topics are subscribed to and published to", async () => {
  const topics = { subscribe: ["room.*"], publish: ["room.*"] };
  const ada = client({ token: await server.token({ user: "ada-topics", topics }) });
  const bob = client({ token: await server.token({ user: "bob-topics", topics }) });
  await Promise.all([ready(ada), ready(bob)]);
  const subscription = bob.newSubscription("room.1");
  const heard = [];
  subscription.on("publication", (event) => heard.push(event));
  subscription.subscribe();
  await subscription.ready(30_000);
  await ada.publish("room.1", { hello: "bob" });
  await server.post("/v1/topics/room.1/publish", { publications: [{ data: "from the backend" }] });
  await eventually("both publications", () => heard.length === 2);
  assert.deepEqual(heard.map((event) => event.data), [{ hello: "bob" }, "from the backend"]);
  assert.deepEqual(heard.map((event) => event.offset), [1, 2]);
  await assert.rejects(ada.publish("hall.1", {}), (error) => error.code === 103);

  const refused = ada.newSubscription("hall.1");
  const gone = new Promise((resolve) => refused.once("unsubscribed", resolve));
  refused.subscribe();
  assert.equal((await gone).code, 103);
});

test("with a shared-secret token the inbox comes when it is asked for", async () => {
  const token = hs256({ sub: "carol", exp: Math.floor(Date.now() / 1000) + 3600 });
  const silent = client({ token });
  const asking = client({ token, data: { inbox: true } });
  const subscribing = client({ token });
  const subscription = subscribing.newSubscription(INBOX);
  const heard = [];
  subscription.on("publication", (event) => heard.push(event));
  subscription.subscribe();
  await Promise.all([ready(silent), ready(asking), ready(subscribing), subscription.ready(30_000)]);
  await server.ring("carol", "hello");
  await eventually("the asking client's", () => titles(asking).includes("hello"));
  await eventually("the subscribing client's", () => heard.some((event) => event.data.entry?.content.title === "hello"));
  assert.deepEqual(titles(silent), []);
});

test("a bad token is final", async () => {
  const stranger = client({ token: "nonsense" });
  const gone = new Promise((resolve) => stranger.once("disconnected", resolve));
  stranger.connect();
  assert.equal((await gone).code, 3500);
});

test("after a cut everything that was missed is recovered", async () => {
  const proxy = await CuttingProxy.to(server.port);
  try {
    const topics = { subscribe: ["room.*"], publish: [] };
    const phone = client({ token: await server.token({ user: "dave", topics }), data: { device: "phone" } }, proxy.port);
    const subscription = phone.newSubscription("room.cut");
    const heard = [];
    const subscribed = [];
    subscription.on("publication", (event) => heard.push(event.data));
    subscription.on("subscribed", (event) => subscribed.push(event));
    subscription.subscribe();
    await ready(phone);
    await subscription.ready(30_000);
    await server.ring("dave", "before");
    await eventually("the first", () => titles(phone).includes("before"));

    for (let round = 1; round <= 3; round += 1) {
      proxy.cut();
      await eventually("the loss to be noticed", () => phone.state === "connecting");
      await server.ring("dave", `missed ${round}`);
      await server.post("/v1/topics/room.cut/publish", { publications: [{ data: round }] });
      proxy.mend();
      await eventually("the recovery", () => titles(phone).includes(`missed ${round}`) && heard.includes(round));
    }
    await server.ring("dave", "after");
    await eventually("the live one", () => titles(phone).includes("after"));
    assert.deepEqual(titles(phone), ["before", "missed 1", "missed 2", "missed 3", "after"]);
    assert.deepEqual(phone.received.map((event) => event.offset), [1, 2, 3, 4, 5]);
    assert.deepEqual(heard, [1, 2, 3]);
    assert.ok(subscribed.slice(1).every((event) => event.wasRecovering && event.recovered));
  } finally {
    await proxy.stop();
  }
});

test("a restart and a kill are survived, with nothing lost or repeated", async () => {
  const phone = client({ token: await server.token({ user: "erin" }), data: { device: "phone" } });
  await ready(phone);
  await server.ring("erin", "one");
  await eventually("the first", () => titles(phone).includes("one"));
  for (const signal of ["SIGTERM", "SIGKILL"]) {
    const connections = phone.connections.length;
    await server.kill(signal);
    await server.run();
    await server.ring("erin", signal);
    await eventually(`what came after ${signal}`, () => titles(phone).includes(signal));
    assert.equal(phone.state, "connected");
    assert.ok(phone.connections.length > connections);
  }
  assert.deepEqual(titles(phone), ["one", "SIGTERM", "SIGKILL"]);
  assert.deepEqual(phone.received.map((event) => event.offset), [1, 2, 3]);
});

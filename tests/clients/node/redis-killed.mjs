// node-redis over a server that is killed and started again. Usage: node redis-killed.mjs PORT RESP
import assert from "node:assert/strict";
import { createClient, defineScript, WatchError } from "redis";
import { ask, finish, until } from "./dialogue.mjs";

const port = Number(process.argv[2]);
const RESP = Number(process.argv[3]);

const take = defineScript({
  NUMBER_OF_KEYS: 1,
  SCRIPT: "local n = tonumber(redis.call('GET', KEYS[1]) or 0); redis.call('SET', KEYS[1], n + ARGV[1]); return n",
  parseCommand(parser, key, count) {
    parser.pushKey(key);
    parser.push(String(count));
  },
  transformReply: (reply) => reply,
});

async function connect(options = {}) {
  const socket = { host: "127.0.0.1", port, reconnectStrategy: () => 20 };
  const client = createClient({ socket, RESP, scripts: { take }, ...options });
  client.on("error", () => {}); // the server is away for a while
  await client.connect();
  return client;
}

const client = await connect();
const other = await connect();
const subscriber = await connect();
const waiting = await connect();
// Its cache is kept right by invalidations, which come in RESP3 only.
const cached = await connect(RESP === 3 ? { clientSideCache: { maxEntries: 100, ttl: 0 } } : {});
await client.flushAll();

assert.equal(await client.take("taken", 5), 0);
assert.deepEqual(await client.multi().take("taken", 1).incr("x").exec(), [5, 1]);
await client.set("t", "1");
await client.watch("t");
await other.set("t", "2");
await assert.rejects(client.multi().set("t", "3").exec(), WatchError);

async function readsRight(value) {
  await client.set("cached", value);
  await until(async () => (await cached.get("cached")) === value, `the cache has ${value}`);
  for (let times = 0; times < 3; times += 1) assert.equal(await cached.get("cached"), value);
}
const calls = async () => Number(/cmdstat_get:calls=(\d+)/.exec(await client.info("commandstats"))?.[1] ?? 0);
await readsRight("1");
await readsRight("2");
if (RESP === 3) {
  const asked = await calls();
  for (let times = 0; times < 10; times += 1) assert.equal(await cached.get("cached"), "2");
  assert.equal(await calls(), asked);
}

const heard = new Set();
await subscriber.subscribe("news", (message) => heard.add(message));
await subscriber.pSubscribe("n*", (message) => heard.add(`* ${message}`));
await client.publish("news", "before");
await until(() => heard.has("before") && heard.has("* before"), "messages come");

await client.xGroupCreate("stream", "group", "0", { MKSTREAM: true });
const entries = async (id) =>
  (await client.xReadGroup("group", "me", { key: "stream", id }, { COUNT: 100 }))?.[0].messages ?? [];
for (let number = 0; number < 10; number += 1) await client.xAdd("stream", "*", { number: String(number) });
const given = await entries(">");
assert.equal(given.length, 10);
assert.equal(await client.xAck("stream", "group", given.slice(0, 4).map(({ id }) => id)), 4);

// What had been sent when the server was killed fails, to be tried again by those who know how; what is asked for
// while it is away is kept and sent to the next one.
const popped = waiting.blPop("queue", 0).then(
  () => "popped",
  () => "lost",
);
await until(async () => (await client.info("clients")).includes("blocked_clients:1"), "it waits");
const acknowledged = [];
let isWriting = true;
const writing = (async () => {
  for (let number = 0; isWriting; number += 1) {
    try {
      await client.rPush("written", String(number));
      acknowledged.push(String(number));
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
})();
await until(() => acknowledged.length >= 100, "something is written");
await ask("kill");
await until(() => !other.isReady, "the end is noticed");
const meanwhile = Promise.all([other.set("meanwhile", "x"), other.get("t"), other.multi().incr("x").get("x").exec()]);
await ask("start");
assert.deepEqual(await meanwhile, ["OK", "2", [2, "2"]]);
const before = acknowledged.length;
await until(() => acknowledged.length >= before + 100, "more is written");
isWriting = false;
await writing;
const written = new Set(await client.lRange("written", 0, -1));
assert.deepEqual(acknowledged.filter((number) => !written.has(number)), []);

assert.equal(await popped, "lost");
const again = waiting.blPop("queue", 0);
await client.rPush("queue", "job");
assert.deepEqual({ ...(await again) }, { key: "queue", element: "job" });
assert.equal(await client.take("taken", 1), 6);
await readsRight("3");
await readsRight("4");
await until(async () => {
  await client.publish("news", "after");
  return heard.has("after") && heard.has("* after");
}, "messages come again");
assert.deepEqual((await entries("0")).map(({ id }) => id), given.slice(4).map(({ id }) => id));
const claimed = await client.xAutoClaim("stream", "group", "other", 0, "0");
assert.equal(claimed.messages.length, 6);
assert.equal(await client.xAck("stream", "group", claimed.messages.map(({ id }) => id)), 6);
assert.equal((await client.xPending("stream", "group")).pending, 0);

await Promise.all([client, other, subscriber, waiting, cached].map((one) => one.close()));
finish();

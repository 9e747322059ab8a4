// What programs do with node-redis. Usage: node redis.mjs PORT RESP. Ends with status 0 and prints "ok".
import assert from "node:assert/strict";
import { createClient, WatchError } from "redis";

const port = Number(process.argv[2]);
const RESP = Number(process.argv[3]);

async function connect(options = {}) {
  const client = createClient({ socket: { host: "127.0.0.1", port }, RESP, ...options });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  return client;
}

async function values(client) {
  assert.equal(await client.set("a", "1", { EX: 100 }), "OK");
  assert.equal(await client.incrBy("a", 41), 42);
  assert.ok((await client.ttl("a")) > 90);
  assert.equal(await client.get("missing"), null);
  assert.equal(await client.set("a", "2", { NX: true }), null);
  await client.hSet("h", { name: "x", size: 3 });
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { name: "x", size: "3" });
  await client.rPush("l", ["1", "2", "3"]);
  assert.deepEqual(await client.lRange("l", 0, -1), ["1", "2", "3"]);
  await client.zAdd("z", [
    { score: 1, value: "one" },
    { score: 2.5, value: "two" },
  ]);
  assert.equal(await client.zScore("z", "two"), 2.5);
  assert.deepEqual(await client.zRangeWithScores("z", 0, -1), [
    { value: "one", score: 1 },
    { value: "two", score: 2.5 },
  ]);
  await client.sAdd("s", ["x", "y"]);
  assert.deepEqual([...(await client.sMembers("s"))].sort(), ["x", "y"]);
  assert.equal(await client.xAdd("x", "1-1", { f: "v" }), "1-1");
  const entries = await client.xRange("x", "-", "+");
  assert.equal(entries.length, 1);
  assert.deepEqual({ ...entries[0].message }, { f: "v" });
  await assert.rejects(client.lPush("a", "x"), /WRONGTYPE/);
}

async function pipelinesAndTransactions(client) {
  assert.deepEqual(await Promise.all([client.set("p", "1"), client.incr("p"), client.get("p")]), ["OK", 2, "2"]);
  assert.deepEqual(await client.multi().set("t", "1").incr("t").exec(), ["OK", 2]);
  const other = await connect();
  await client.watch("t");
  await other.set("t", "changed");
  await assert.rejects(client.multi().set("t", "9").exec(), WatchError);
  assert.equal(await client.get("t"), "changed");
  await other.close();
}

async function many(client) {
  const keys = Array.from({ length: 2000 }, (_, i) => `many:${i}`);
  await Promise.all(keys.map((key, i) => client.set(key, String(i))));
  assert.deepEqual(await client.mGet(keys), keys.map((_, i) => String(i)));
  const found = new Set();
  for await (const batch of client.scanIterator({ MATCH: "many:*", COUNT: 100 })) {
    for (const key of batch) found.add(key);
  }
  assert.equal(found.size, 2000);
  assert.equal(await client.unlink(keys), 2000);
}

async function messages(client) {
  const subscriber = await connect();
  const seen = [];
  let done;
  const received = new Promise((resolve) => (done = resolve));
  const note = (message, channel) => seen.push([channel, message]) === 2 && done();
  await subscriber.subscribe("news", note);
  await subscriber.pSubscribe("w*", note);
  assert.equal(await client.publish("news", "hello"), 1);
  assert.equal(await client.publish("weather", "rain"), 1);
  await received;
  assert.deepEqual(seen, [
    ["news", "hello"],
    ["weather", "rain"],
  ]);
  await subscriber.unsubscribe();
  await subscriber.pUnsubscribe();
  await subscriber.close();
}

async function blocking(client) {
  const waiting = await connect();
  const popped = waiting.blPop(["queue", "other"], 5);
  await new Promise((resolve) => setTimeout(resolve, 30));
  await client.rPush("queue", "job");
  assert.deepEqual({ ...(await popped) }, { key: "queue", element: "job" });
  assert.equal(await waiting.blPop("queue", 0.05), null);
  await waiting.close();
}

async function databases(client) {
  const third = await connect({ database: 3 });
  await third.set("only", "here");
  assert.equal(await client.get("only"), null);
  assert.equal(await third.dbSize(), 1);
  await third.close();
}

const client = await connect();
await client.flushAll();
for (const part of [values, pipelinesAndTransactions, many, messages, blocking, databases]) {
  await part(client);
}
await client.close();
console.log("ok");

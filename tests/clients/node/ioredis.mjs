// What programs do with ioredis. Usage: node ioredis.mjs PORT RESP. Ends with status 0 and prints "ok".
import assert from "node:assert/strict";
import { Redis } from "ioredis";

const port = Number(process.argv[2]);
const protocol = Number(process.argv[3]);
const connect = (options = {}) => new Redis({ port, host: "127.0.0.1", protocol, maxRetriesPerRequest: 2, ...options });

async function collect(stream) {
  const found = [];
  for await (const batch of stream) found.push(...batch);
  return found;
}

async function values(client) {
  assert.equal(await client.set("a", "1", "EX", 100), "OK");
  assert.equal(await client.incrby("a", 41), 42);
  assert.ok((await client.ttl("a")) > 90);
  assert.equal(await client.get("missing"), null);
  assert.equal(await client.set("a", "2", "NX"), null);
  const bytes = Buffer.from([0, 255, 13, 10, 128]);
  await client.set("bytes", bytes);
  assert.deepEqual(await client.getBuffer("bytes"), bytes);
  await client.hset("h", { name: "x", size: 3 });
  assert.deepEqual(await client.hgetall("h"), { name: "x", size: "3" });
  await client.rpush("l", 1, 2, 3);
  assert.deepEqual(await client.lrange("l", 0, -1), ["1", "2", "3"]);
  await client.zadd("z", 1, "one", 2, "two");
  assert.deepEqual(await client.zrange("z", 0, -1, "WITHSCORES"), ["one", "1", "two", "2"]);
  await client.sadd("s", "x", "y");
  assert.deepEqual((await client.smembers("s")).sort(), ["x", "y"]);
  assert.equal(await client.xadd("x", "1-1", "f", "v"), "1-1");
  assert.deepEqual(await client.xrange("x", "-", "+"), [["1-1", ["f", "v"]]]);
  await assert.rejects(client.lpush("a", "x"), /^ReplyError: WRONGTYPE/);
}

async function pipelinesAndTransactions(client) {
  const replies = await client.pipeline().set("p", 1).incr("p").lpush("p", "x").get("p").exec();
  assert.deepEqual(replies[1], [null, 2]);
  assert.match(String(replies[2][0]), /WRONGTYPE/);
  assert.deepEqual(replies[3], [null, "2"]);
  assert.deepEqual(await client.multi().set("t", 1).incr("t").exec(), [
    [null, "OK"],
    [null, 2],
  ]);
  const other = connect();
  await client.watch("t");
  await other.set("t", "changed");
  assert.equal(await client.multi().set("t", 9).exec(), null);
  assert.equal(await client.get("t"), "changed");
  await other.quit();
}

async function many(client) {
  const keys = Array.from({ length: 2000 }, (_, i) => `many:${i}`);
  await Promise.all(keys.map((key, i) => client.set(key, i)));
  assert.deepEqual(await client.mget(keys), keys.map((_, i) => String(i)));
  const found = await collect(client.scanStream({ match: "many:*", count: 100 }));
  assert.equal(new Set(found).size, 2000);
  await client.hset("many", Object.fromEntries(keys.map((key, i) => [key, i])));
  assert.equal((await collect(client.hscanStream("many"))).length, 4000);
  assert.equal(await client.unlink(keys), 2000);
}

async function messages(client) {
  const subscriber = connect();
  assert.equal(await subscriber.subscribe("news", "sport"), 2);
  assert.equal(await subscriber.psubscribe("w*"), 3);
  const received = new Promise((resolve) => {
    const seen = [];
    const note = (...message) => seen.push(message) === 2 && resolve(seen);
    subscriber.on("message", note);
    subscriber.on("pmessage", note);
  });
  assert.equal(await client.publish("news", "hello"), 1);
  assert.equal(await client.publish("weather", "rain"), 1);
  assert.deepEqual(await received, [
    ["news", "hello"],
    ["w*", "weather", "rain"],
  ]);
  await subscriber.unsubscribe("news", "sport");
  await subscriber.punsubscribe("w*");
  assert.equal(await subscriber.get("a"), "42");
  await subscriber.quit();
}

async function blocking(client) {
  const waiting = connect();
  const popped = waiting.blpop("queue", "other", 5);
  await new Promise((resolve) => setTimeout(resolve, 30));
  await client.rpush("queue", "job");
  assert.deepEqual(await popped, ["queue", "job"]);
  assert.equal(await waiting.blpop("queue", 0.05), null);
  const entry = waiting.xread("BLOCK", 5000, "STREAMS", "events", "$");
  await new Promise((resolve) => setTimeout(resolve, 30));
  await client.xadd("events", "1-1", "k", "v");
  assert.deepEqual(await entry, [["events", [["1-1", ["k", "v"]]]]]);
  await waiting.quit();
}

async function databases(client) {
  const third = connect({ db: 3 });
  await third.set("only", "here");
  assert.equal(await client.get("only"), null);
  assert.equal(await third.dbsize(), 1);
  await third.quit();
}

const client = connect();
await client.flushall();
for (const part of [values, pipelinesAndTransactions, many, messages, blocking, databases]) {
  await part(client);
}
await client.quit();
console.log("ok");

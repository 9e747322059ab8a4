// ioredis over a server that is killed and started again. Usage: node ioredis-killed.mjs PORT RESP
import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { ask, finish, until } from "./dialogue.mjs";

const port = Number(process.argv[2]);
const protocol = Number(process.argv[3]);

function connect(options = {}) {
  const client = new Redis({
    port,
    host: "127.0.0.1",
    protocol,
    maxRetriesPerRequest: null,
    retryStrategy: () => 20,
    scripts: {
      take: {
        numberOfKeys: 1,
        lua: "local n = tonumber(redis.call('GET', KEYS[1]) or 0); redis.call('SET', KEYS[1], n + ARGV[1]); return n",
      },
    },
    ...options,
  });
  client.on("error", () => {}); // the server is away for a while
  return client;
}

const client = connect();
const piping = connect({ enableAutoPipelining: true });
const subscriber = connect();
const waiting = connect();
const reader = connect();
await client.flushall();

// Scripts by name: EVALSHA, and EVAL where the script is not known.
client.defineCommand("both", { numberOfKeys: 2, lua: "return {redis.call('INCR', KEYS[1]), redis.call('INCR', KEYS[2])}" });
assert.deepEqual(await client.both("x", "y"), [1, 1]);
assert.equal(await client.take("taken", 5), 0);
assert.deepEqual(await client.pipeline().take("taken", 1).both("x", "y").exec(), [
  [null, 5],
  [null, [2, 2]],
]);
assert.deepEqual(await client.multi().incr("x").incr("y").exec(), [
  [null, 3],
  [null, 3],
]);

// All that is asked for in one turn goes in one pipeline.
const numbers = Array.from({ length: 500 }, (_, number) => number);
await Promise.all(numbers.map((number) => piping.set(`n:${number}`, number)));
assert.deepEqual(await Promise.all(numbers.map((n) => piping.get(`n:${n}`))), numbers.map(String));

const heard = new Set();
subscriber.on("message", (_, message) => heard.add(message));
subscriber.on("pmessage", (pattern, _, message) => heard.add(`${pattern} ${message}`));
await subscriber.subscribe("news");
await subscriber.psubscribe("n*");
await client.publish("news", "before");
await until(() => heard.has("before") && heard.has("n* before"), "messages come");

await client.xgroup("CREATE", "stream", "group", "0", "MKSTREAM");
const entries = async (from, client = reader) =>
  ((await client.xreadgroup("GROUP", "group", "me", "COUNT", 100, "STREAMS", "stream", from)) ?? [["", []]])[0][1];
for (let number = 0; number < 10; number += 1) await client.xadd("stream", "*", "number", number);
const given = await entries(">");
assert.equal(given.length, 10);
assert.equal(await client.xack("stream", "group", ...given.slice(0, 4).map(([id]) => id)), 4);

// Who waits when the server is killed waits on at the next one; what is asked for meanwhile is kept and sent then.
const popped = waiting.blpop("queue", 0);
await until(async () => (await client.info("clients")).includes("blocked_clients:1"), "it waits");
const acknowledged = [];
let isWriting = true;
const writing = (async () => {
  for (let number = 0; isWriting; number += 1) {
    await client.rpush("written", number);
    acknowledged.push(String(number));
  }
})();
await until(() => acknowledged.length >= 100, "something is written");
await ask("kill");
const meanwhile = Promise.all([piping.set("meanwhile", "x"), piping.get("n:7"), client.multi().incr("x").get("x").exec()]);
await ask("start");
const [set, seventh, transaction] = await meanwhile;
assert.equal(set, "OK");
assert.equal(seventh, "7");
assert.equal(transaction[0][1], Number(transaction[1][1]));
const before = acknowledged.length;
await until(() => acknowledged.length >= before + 100, "more is written");
isWriting = false;
await writing;
const written = new Set(await client.lrange("written", 0, -1));
assert.deepEqual(acknowledged.filter((number) => !written.has(number)), []);

await client.rpush("queue", "job");
assert.deepEqual(await popped, ["queue", "job"]);
assert.equal(await client.take("taken", 1), 6);
assert.equal((await client.pipeline().both("y", "z").exec())[0][1][1], 1);
await until(async () => {
  await client.publish("news", "after");
  return heard.has("after") && heard.has("n* after");
}, "messages come again");
assert.deepEqual((await entries("0")).map(([id]) => id), given.slice(4).map(([id]) => id));
const [, claimed] = await reader.xautoclaim("stream", "group", "other", 0, "0");
assert.equal(claimed.length, 6);
assert.equal(await client.xack("stream", "group", ...claimed.map(([id]) => id)), 6);
assert.equal((await client.xpending("stream", "group"))[0], 0);

await Promise.all([client, piping, subscriber, waiting, reader].map((one) => one.quit()));
finish();

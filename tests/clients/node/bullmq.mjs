// BullMQ: queues that live on Lua scripts, streams and blocking pops. node bullmq.mjs PORT
//
// Says "kill" and "start" when it wants that done to the server, and goes on when it reads the same word.

import assert from "node:assert/strict";
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { ask, finish, until } from "./dialogue.mjs";

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null };
const opened = [];

function open(thing) {
  thing.on("error", () => {}); // the server is away for a while
  opened.push(thing);
  return thing;
}

const WAIT_MS = 30_000;
const HELD = 30;
const done = new Map();
let failures = 0;
let isHeld = false;
let release;
const released = new Promise((resolve) => (release = resolve));

const queue = open(new Queue("work", { connection }));
const events = open(new QueueEvents("work", { connection }));
const flows = open(new FlowProducer({ connection }));
const worker = open(
  new Worker(
    "work",
    async (job) => {
      switch (job.name) {
        case "fail":
          throw new Error("this job fails");
        case "fail at first":
          failures += 1;
          if (failures <= 2) throw new Error(`failure ${failures}`);
          return failures;
        case "sum":
          return Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0);
        default:
          await job.updateProgress(50);
          if (job.data.number === HELD) {
            isHeld = true;
            await released;
          }
          done.set(job.id, (done.get(job.id) ?? 0) + 1);
          return job.data.number ** 2;
      }
    },
    { connection, concurrency: 4, lockDuration: 2000, stalledInterval: 500 },
  ),
);
await events.waitUntilReady();
await worker.waitUntilReady();

// Results, failures, retries, delays and priorities.
const simple = await queue.add("square", { number: 7 });
assert.equal(await simple.waitUntilFinished(events, WAIT_MS), 49);
const failing = await queue.add("fail", {});
await assert.rejects(failing.waitUntilFinished(events, WAIT_MS), /this job fails/);
const retried = await queue.add("fail at first", {}, { attempts: 3, backoff: { type: "fixed", delay: 20 } });
assert.equal(await retried.waitUntilFinished(events, WAIT_MS), 3);
const begun = Date.now();
const delayed = await queue.add("square", { number: 8 }, { delay: 300 });
assert.equal(await delayed.getState(), "delayed");
assert.equal(await delayed.waitUntilFinished(events, WAIT_MS), 64);
assert.ok(Date.now() - begun >= 290);
const urgent = await queue.add("square", { number: 9 }, { priority: 1 });
assert.equal(await urgent.waitUntilFinished(events, WAIT_MS), 81);

// A flow: the parent runs when its children have, with what they return.
const flow = await flows.add({
  name: "sum",
  queueName: "work",
  children: [1, 2, 3].map((number) => ({ name: "square", queueName: "work", data: { number } })),
});
assert.equal(await flow.job.waitUntilFinished(events, WAIT_MS), 14);

// One that is repeated.
let ticks = 0;
worker.on("completed", (job) => {
  if (job.name === "tick") ticks += 1;
});
await queue.upsertJobScheduler("clock", { every: 100 }, { name: "tick", data: { number: 1 } });
await until(() => ticks >= 3, "the clock ticks");
assert.ok(await queue.removeJobScheduler("clock"));

const counts = await queue.getJobCounts("completed", "failed");
assert.ok(counts.completed >= 8);
assert.equal(counts.failed, 1);

// The server is killed while jobs run: what was acknowledged is done, once at least.
await worker.pause();
const batch = await queue.addBulk(
  Array.from({ length: 60 }, (_, number) => ({ name: "square", data: { number }, opts: { attempts: 3 } })),
);
worker.resume();
const coming = await queue.add("square", { number: 50 }, { delay: 500 });
const waitingFlow = await flows.add({
  name: "sum",
  queueName: "work",
  children: [4, 5].map((number) => ({ name: "square", queueName: "work", data: { number } })),
});
// In the middle of a job, which ends while there is no server.
await until(() => isHeld, "half of the batch is done");
await ask("kill");
release();
await ask("start");
const late = await queue.add("square", { number: 100 });
await until(async () => {
  const states = await Promise.all([...batch, coming, late, waitingFlow.job].map((job) => job.getState()));
  return states.every((state) => state === "completed");
}, "all of the batch is done");
assert.equal((await queue.getJob(waitingFlow.job.id)).returnvalue, 41);
for (const job of [...batch, coming, late]) {
  assert.ok(done.has(job.id));
  assert.equal((await queue.getJob(job.id)).returnvalue, job.data.number ** 2);
}
await queue.obliterate({ force: true });
assert.equal(await queue.count(), 0);

await Promise.all(opened.map((thing) => thing.close()));
finish();

// How a script asks the test that runs it for something, and waits for conditions.
import assert from "node:assert/strict";
import readline from "node:readline";

const words = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Says a word ("kill", "start") and goes on when the test has done it.
export async function ask(word) {
  console.log(word);
  assert.equal((await words.next()).value, word);
}

// Waits until a condition holds, bounded.
export async function until(condition, what) {
  for (let tries = 0; tries < 2000; tries += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(what);
}

export function finish() {
  console.log("ok");
  process.exit(0);
}

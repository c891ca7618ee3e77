/** The reporter that writes `doc/faults.md`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import faultTable, { type RunEvent } from "../support/fault-table.ts";

async function* told(events: readonly RunEvent[]): AsyncGenerator<RunEvent> {
  yield* events;
}

test("the table has each case with its end, those that failed or were not run too", async () => {
  const file = "/somewhere/faults-live.test.ts";
  const passed = (name: string, more = {}): RunEvent => ({
    type: "test:pass",
    data: { name, file, nesting: 0, ...more },
  });
  const said = (message: string, nesting = 0): RunEvent => ({
    type: "test:diagnostic",
    data: { message, file, nesting },
  });
  const events = [
    passed("killed | early"),
    said("aborted"),
    passed("killed late"),
    said("some figures"),
    said("completed"),
    { type: "test:fail", data: { name: "cut", file, nesting: 0 } },
    said("completed"),
    passed("too late"),
    said("aborted", 1),
    passed("left out", { skip: "not run" }),
    said("completed"),
    { type: "test:diagnostic", data: { message: "tests 5", nesting: 0 } },
  ];
  const text = (await Array.fromAsync(faultTable(told(events)))).join("");
  assert.match(text, /^# Faults\n/);
  const rows = text.split("\n").filter((line) => /^\| (?!case|---)/.test(line));
  assert.deepEqual(rows, [
    "| killed \\| early | aborted |",
    "| killed late | completed |",
    "| cut | **FAILED** |",
    "| too late | as expected |",
    "| left out | not run |",
  ]);
  assert.ok(text.includes("\n\n4 of 5 were run.\n"));
});

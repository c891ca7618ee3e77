import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { openJournal } from "./journal.ts";
import {
  destinationRecords,
  hotDestinationRecords,
  hotSourceRecords,
  sourceRecords,
} from "./records.suite.ts";
import type { MigrationRecord } from "./migrations/record.ts";

const records: fc.Arbitrary<MigrationRecord> = fc.oneof(
  sourceRecords,
  destinationRecords,
  hotSourceRecords,
  hotDestinationRecords,
);

function sample(seed = 1): MigrationRecord {
  const [record] = fc.sample(sourceRecords, { numRuns: 1, seed });
  if (record === undefined) throw new Error("no sample");
  return record;
}

function pathFor(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "tessera-journal-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "journal.sqlite");
}

function withCode(code: string): (error: unknown) => boolean {
  return (error) => hasCode(error, code);
}

test("every record comes back as it was saved", (t) => {
  const journal = openJournal(pathFor(t));
  t.after(() => journal.close());
  fc.assert(
    fc.property(records, (record) => {
      journal.save(record, { event: "e", at_ms: 1 });
      assert.deepEqual(journal.load(record.id), JSON.parse(JSON.stringify(record)));
    }),
    { numRuns: 60 },
  );
});

test("a journal that is opened again holds records and entries, newest first", (t) => {
  const path = pathFor(t);
  const journal = openJournal(path);
  const older = { ...sample(1), started_ms: 10 };
  const newer = { ...sample(2), started_ms: 20 };
  journal.save(older, { event: "proposed", at_ms: 10 });
  journal.save(newer, { event: "proposed", at_ms: 20 });
  const ended = { ...older, phase: "aborted" } as MigrationRecord;
  journal.save(ended, { event: "rolled-back", detail: "it failed", at_ms: 30 });
  journal.close();
  const again = openJournal(path);
  t.after(() => again.close());
  assert.deepEqual(
    again.list().map(({ id }) => id),
    [newer.id, older.id],
  );
  assert.equal(again.load(older.id)?.phase, "aborted");
  assert.deepEqual(again.entries(older.id), [
    { seq: 1, at_ms: 10, phase: older.phase, event: "proposed" },
    { seq: 2, at_ms: 30, phase: "aborted", event: "rolled-back", detail: "it failed" },
  ]);
  assert.deepEqual(again.entries("nobody"), []);
});

test("a process that is killed leaves what it saved, record and entry together", (t) => {
  const path = pathFor(t);
  const record = sample();
  const code = `
    const { openJournal } = await import(${JSON.stringify(import.meta.resolve("./journal.ts"))});
    const journal = openJournal(${JSON.stringify(path)});
    journal.save(${JSON.stringify(record)}, { event: "proposed", at_ms: 1 });
    process.kill(process.pid, "SIGKILL");`;
  const { signal, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], {
    encoding: "utf8",
  });
  assert.equal(signal, "SIGKILL", stderr);
  const journal = openJournal(path);
  t.after(() => journal.close());
  assert.equal(journal.load(record.id)?.id, record.id);
  assert.equal(journal.entries(record.id).length, 1);
});

test("an entry that cannot be written takes its record back with it", (t) => {
  const journal = openJournal(pathFor(t));
  t.after(() => journal.close());
  const record = sample();
  journal.save(record, { event: "proposed", at_ms: 1 });
  const next = { ...record, phase: "aborting" } as MigrationRecord;
  const entry = { event: undefined as unknown as string, at_ms: 2 };
  assert.throws(() => journal.save(next, entry), withCode("agent.journal-unusable"));
  assert.equal(journal.load(record.id)?.phase, record.phase);
  journal.save(next, { event: "failed", at_ms: 3 });
  assert.equal(journal.entries(record.id).length, 2);
});

test("what could not be read again is not written", (t) => {
  const journal = openJournal(pathFor(t));
  t.after(() => journal.close());
  const bad = { ...sample(), started_ms: -1 };
  const save = () => journal.save(bad, { event: "proposed", at_ms: 1 });
  assert.throws(save, withCode("agent.record-invalid"));
  assert.equal(journal.load(bad.id), undefined);
});

test("a record that was damaged is named as corrupt", (t) => {
  const path = pathFor(t);
  const journal = openJournal(path);
  const record = sample();
  journal.save(record, { event: "proposed", at_ms: 1 });
  journal.close();
  const database = new DatabaseSync(path);
  database.exec(`UPDATE migration SET record = replace(record, '"phase":', '"phrase":')`);
  database.close();
  const again = openJournal(path);
  t.after(() => again.close());
  assert.throws(() => again.list(), withCode("agent.journal-corrupt"));
  assert.throws(() => again.load(record.id), withCode("agent.journal-corrupt"));
});

test("a file that is no journal, and a second agent, are refused", (t) => {
  const path = pathFor(t);
  const journal = openJournal(path);
  assert.throws(() => openJournal(path), withCode("agent.already-running"));
  journal.close();
  openJournal(path).close();
  assert.throws(() => openJournal("/dev/null/journal"), withCode("agent.journal-unusable"));
});

test("a closed journal says so and does not break", (t) => {
  const journal = openJournal(pathFor(t));
  journal.close();
  const save = () => journal.save(sample(), { event: "e", at_ms: 1 });
  assert.throws(save, withCode("agent.journal-unusable"));
});

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { layoutOf } from "./layout.ts";
import { readRecord, writeRecord, type LaunchRecord } from "./record.ts";
import { boundLog, readPart, readTail } from "./texts.ts";
import { versionOf } from "./hypervisor.ts";

const { files } = realWorld();
const corrupt = (error: unknown): boolean => hasCode(error, "hypervisor.record-corrupt");

test("a record is read as written; a broken one is corrupt; none is none", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "hv-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const layout = layoutOf(directory);
  assert.equal(await readRecord(files, layout), undefined);
  const record: LaunchRecord = {
    version: 1,
    uuid: "u",
    launch: "0123456789abcdef",
    specification: "{}",
    hostPorts: { http: 80 },
    dataPath: "/d",
    process: { pid: 7, startTicks: 8, bootId: "b" },
    stopped: "graceful",
  };
  await writeRecord(files, layout, record);
  assert.deepEqual(await readRecord(files, layout), record);
  for (const text of ["", "{}", JSON.stringify({ ...record, launch: "../../etc" })]) {
    writeFileSync(layout.record, text);
    await assert.rejects(readRecord(files, layout), corrupt);
  }
});

test("texts are read by part and logs are bounded", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "hv-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "log");
  assert.equal(await readTail(files, path, 10), "");
  writeFileSync(path, "0123456789");
  assert.equal(await readPart(files, path, 2, 3), "234");
  assert.equal(await readTail(files, path, 3), "789");
  assert.equal(await readTail(files, path, 100, 8), "89");
  truncateSync(path, 1000);
  await boundLog(files, path, 1000);
  assert.equal((await files.status(path))?.sizeBytes, 1000);
  await boundLog(files, path, 999);
  assert.equal((await files.status(path))?.sizeBytes, 0);
});

test("the version is found in QEMU's own words", () => {
  assert.equal(versionOf("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n"), "7.2.22");
  assert.equal(versionOf(""), "unknown");
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import { readElf, type Elf } from "./elf.ts";

function elfOf(bytes: Uint8Array): Promise<Elf | undefined> {
  const read = (position: number, length: number): Promise<Uint8Array> =>
    Promise.resolve(bytes.slice(position, position + length));
  return readElf(read, bytes.length);
}

const SH = readFileSync(realpathSync("/bin/sh"));
const LIBC_PATH = /=> (\S*libc\.so\.6)/.exec(
  spawnSync("ldd", [realpathSync("/bin/sh")], { encoding: "utf8" }).stdout,
)?.[1];

test("a program's libraries and versions are read", async () => {
  const elf = await elfOf(SH);
  assert.ok(elf);
  assert.equal(elf.dynamic, true);
  assert.ok(elf.needed.includes("libc.so.6"));
  const libc = elf.required.find(({ library }) => library === "libc.so.6");
  assert.ok(libc?.versions.some((version) => /^GLIBC_2\.\d+/.test(version)));
});

test("a library's name and versions are read", async () => {
  const elf = await elfOf(readFileSync(realpathSync(LIBC_PATH ?? "")));
  assert.equal(elf?.soname, "libc.so.6");
  assert.ok(elf?.defined.includes("GLIBC_2.34"));
  assert.ok(!elf?.defined.includes("libc.so.6"), "the version of the file itself is left out");
});

test("what is no ELF file reads as undefined", async () => {
  assert.equal(await elfOf(new Uint8Array(0)), undefined);
  assert.equal(await elfOf(Buffer.from("#!/bin/sh\n".repeat(20))), undefined);
  const short = SH.subarray(0, 80);
  assert.equal(await elfOf(short), undefined);
});

test("a damaged file never reads outside itself nor throws", async () => {
  const size = SH.length;
  const damage = fc.array(
    fc.record({
      at: fc.integer({ min: 4, max: size - 1 }),
      byte: fc.integer({ min: 0, max: 255 }),
    }),
    { minLength: 1, maxLength: 30 },
  );
  const inHeaders = fc.array(
    fc.record({ at: fc.integer({ min: 4, max: 1100 }), byte: fc.integer({ min: 0, max: 255 }) }),
    { minLength: 1, maxLength: 10 },
  );
  await fc.assert(
    fc.asyncProperty(fc.oneof(damage, inHeaders), async (changes) => {
      const bytes = new Uint8Array(SH);
      for (const { at, byte } of changes) bytes[at] = byte;
      const read = (position: number, length: number): Promise<Uint8Array> => {
        assert.ok(position >= 0 && position + length <= size, "a read outside the file");
        return Promise.resolve(bytes.slice(position, position + length));
      };
      await readElf(read, size);
    }),
    { numRuns: 300 },
  );
});

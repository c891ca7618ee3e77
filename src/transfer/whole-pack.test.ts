import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeDifference, solidParameters } from "#delta";
import { noise } from "./components.suite.ts";
import { DifferenceThreads } from "./difference-threads.ts";
import { decompressFrame, decompressUpTo, dictionaryOf } from "./solid.ts";
import { encodeWhole, withKind, withoutKind, type PackBytes } from "./whole-pack.ts";

const MIB = 2 ** 20;

function bytesOf(references: Uint8Array, raw: Uint8Array): PackBytes {
  const dictionary = dictionaryOf(references.length);
  dictionary.set(references, 1);
  return { raw: Buffer.from(raw), dictionary };
}

/** A program of which every 20th byte or so has changed. */
function moved(old: Uint8Array): Buffer {
  return Buffer.from(old.map((byte, at) => (at % 20 === 0 ? byte + 16 : byte)));
}

/** Words in another order: nothing agrees for long. */
function shuffled(words: readonly string[], step: number): Buffer {
  const many = Array.from(
    { length: 60_000 },
    (_, n) => words[(n * step + (n >> 3)) % words.length],
  );
  return Buffer.from(many.join(" "));
}

function optionsOf(level: number, bytes: PackBytes, threads?: DifferenceThreads) {
  const sizes = [bytes.raw?.length ?? 0, (bytes.dictionary?.length ?? 1) - 1] as const;
  const parameters = solidParameters(level, ...sizes);
  const quick = solidParameters(9, ...sizes);
  return { level, parameters, quick, bytesMax: 8 * MIB, threads };
}

test("moved addresses become a difference, on threads and without them", async () => {
  const threads = new DifferenceThreads();
  const old = noise("program", 1.5 * MIB);
  const fresh = moved(old);
  for (const level of [1, 3, 9, 19]) {
    const here = bytesOf(old, fresh);
    const there = bytesOf(old, fresh);
    const made = await encodeWhole(here, optionsOf(level, here));
    const same = await encodeWhole(there, optionsOf(level, there, threads));
    assert.deepEqual(same, made);
    assert.ok(there.raw?.equals(fresh) && there.dictionary?.subarray(1).equals(old));
    assert.ok(made?.kind === "difference");
    const difference = await decompressUpTo(made.data, fresh.length);
    const raw = new Uint8Array(fresh.length);
    assert.ok(difference && decodeDifference(difference, old, raw));
    assert.ok(fresh.equals(raw));
    assert.deepEqual(withoutKind(withKind(made)), made);
  }
  threads.close(new Error("enough"));
});

test("what is similar in short pieces only stays a frame with a dictionary", async () => {
  const words = Array.from({ length: 500 }, (_, n) => noise(`word ${n}`, 6).toString("hex"));
  const bytes = bytesOf(shuffled(words, 7), shuffled(words, 11));
  const made = await encodeWhole(bytes, optionsOf(9, bytes));
  assert.equal(made?.kind, "solid");
  const raw = await decompressFrame(made.data, bytes.raw?.length ?? 0, bytes.dictionary);
  assert.ok(raw !== undefined && bytes.raw?.equals(raw));
});

test("threads that are closed end what they are at, and begin nothing", async () => {
  const threads = new DifferenceThreads();
  const old = noise("program", 4 * MIB);
  const bytes = bytesOf(old, moved(old));
  const making = encodeWhole(bytes, optionsOf(9, bytes, threads));
  const reason = new Error("the session is over");
  threads.close(reason);
  await assert.rejects(making, reason);
  const later = bytesOf(old, moved(old));
  await assert.rejects(encodeWhole(later, optionsOf(9, later, threads)), reason);
});

test("what is no kind in the cache is none", () => {
  assert.equal(withoutKind(Uint8Array.of(0, 1)), undefined);
  assert.equal(withoutKind(Uint8Array.of(3, 1)), undefined);
  assert.equal(withoutKind(new Uint8Array(0)), undefined);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { TesseraError, endOf, mergeRanges, type ByteRange } from "#core";
import { errnoOf, errorOfReply } from "./errors.ts";
import { allocationOf } from "./extents.ts";
import { Negotiation, type OfferedExport } from "./negotiation.ts";
import {
  decodeContextQuery,
  decodeExportFacts,
  decodeExportQuery,
  encodeContextQuery,
  encodeExportFacts,
  encodeExportQuery,
  encodeOption,
} from "./options.ts";
import {
  COMMAND,
  ERRNO,
  FLAG,
  OPTION,
  OPTION_REPLY_HEADER_BYTES,
  REPLY,
  REQUEST_BYTES,
} from "./protocol.ts";
import { encodeError, encodeSimple, encodeStatus, writeDataHead, writeHole } from "./replies.ts";
import { DATA_HEAD_BYTES, HOLE_BYTES } from "./replies.ts";
import { ReplyDecoder, type Outcome, type Pending } from "./reply-decoder.ts";
import { RequestDecoder, encodeRequest, refusalOf, type Request } from "./requests.ts";
import { code, pattern } from "./nbd.suite.ts";

const violated = code("nbd.protocol-violation");

const u16 = fc.integer({ min: 0, max: 2 ** 16 - 1 });
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const request = fc.record(
  {
    flags: u16,
    type: fc.constantFrom(...Object.values(COMMAND), 99),
    cookieHigh: u32,
    cookieLow: u32,
    offset: fc.maxSafeNat(),
    length: fc.nat(1000),
  },
  { noNullPrototype: true },
);

/** Pushes bytes in pieces that end where `cuts` say. */
function inPieces(bytes: Buffer, cuts: readonly number[], push: (piece: Buffer) => void): void {
  const ends = [...new Set([...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])];
  let start = 0;
  for (const end of ends.toSorted((a, b) => a - b)) {
    if (end > start) push(bytes.subarray(start, end));
    start = end;
  }
}

test("requests and payloads are read however their bytes are cut", () => {
  const cuts = fc.array(fc.nat(), { maxLength: 30 });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 20 }), cuts, (requests, cuts) => {
      const bytes = Buffer.concat(
        requests.map((one) => {
          const payload = one.type === COMMAND.WRITE ? pattern(one.length) : Buffer.alloc(0);
          const whole = Buffer.concat([Buffer.alloc(REQUEST_BYTES), payload]);
          encodeRequest(one, whole);
          return whole;
        }),
      );
      const decoder = new RequestDecoder();
      const read: Request[] = [];
      let payload = Buffer.alloc(0);
      let left = 0;
      inPieces(bytes, cuts, (piece) => {
        decoder.push(piece);
        for (;;) {
          if (left > 0) {
            const part = decoder.payload(left);
            if (part.length === 0) return;
            payload = Buffer.concat([payload, part]);
            left -= part.length;
            if (left === 0) assert.ok(payload.equals(pattern(payload.length)));
            continue;
          }
          const next = decoder.next();
          if (next === undefined) return;
          read.push(next);
          payload = Buffer.alloc(0);
          left = next.type === COMMAND.WRITE ? next.length : 0;
        }
      });
      assert.deepEqual(read, requests);
    }),
  );
});

test("a request of another magic is a violation", () => {
  const decoder = new RequestDecoder();
  decoder.push(Buffer.alloc(REQUEST_BYTES));
  assert.throws(() => decoder.next(), violated);
});

const base = { flags: 0, cookieHigh: 0, cookieLow: 0, offset: 0, length: 512 };
const RULES = { sizeBytes: 4096, readOnly: false, status: true };
const errnoFor = (change: Partial<Request> & { readonly type: number }, rules = RULES) =>
  refusalOf({ ...base, ...change }, rules)?.errno;

test("what cannot be served is refused with the protocol's own error", () => {
  for (const type of Object.values(COMMAND)) assert.equal(errnoFor({ type }), undefined, `${type}`);
  const { READ, WRITE, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, FLUSH } = COMMAND;
  const outside = { offset: 4000 };
  for (const type of [READ, TRIM, CACHE, BLOCK_STATUS]) {
    assert.equal(errnoFor({ type, ...outside }), ERRNO.EINVAL);
  }
  for (const type of [WRITE, WRITE_ZEROES]) {
    assert.equal(errnoFor({ type, ...outside }), ERRNO.ENOSPC);
  }
  const still = { ...RULES, readOnly: true };
  for (const type of [WRITE, WRITE_ZEROES, TRIM]) {
    assert.equal(errnoFor({ type }, still), ERRNO.EPERM);
  }
  assert.equal(errnoFor({ type: READ, flags: FLAG.FUA }), undefined);
  assert.equal(errnoFor({ type: READ, flags: FLAG.NO_HOLE }), ERRNO.EINVAL);
  assert.equal(errnoFor({ type: FLUSH, flags: FLAG.DF }), ERRNO.EINVAL);
  assert.equal(errnoFor({ type: 42 }), ERRNO.EINVAL);
  assert.equal(errnoFor({ type: READ, length: 0 }), ERRNO.EINVAL);
  assert.equal(errnoFor({ type: WRITE, length: 0 }), undefined);
  assert.equal(errnoFor({ type: READ, offset: 2 ** 60 }), ERRNO.EINVAL);
  assert.equal(errnoFor({ type: BLOCK_STATUS }, { ...RULES, status: false }), ERRNO.EINVAL);
  const large = { ...RULES, sizeBytes: 2 ** 40 };
  assert.equal(errnoFor({ type: READ, length: 2 ** 25 + 1 }, large), ERRNO.EOVERFLOW);
  assert.equal(errnoFor({ type: READ, length: 2 ** 21, flags: FLAG.DF }, large), ERRNO.EOVERFLOW);
  assert.equal(errnoFor({ type: TRIM, length: 2 ** 32 - 1 }, large), undefined);
  assert.throws(() => errnoFor({ type: WRITE, length: 2 ** 25 + 1 }, large), violated);
});

test("options survive encoding", () => {
  const text = fc.string({ maxLength: 50, unit: "grapheme" });
  fc.assert(
    fc.property(text, fc.array(u16), fc.array(text), (name, items, queries) => {
      assert.deepEqual(decodeExportQuery(encodeExportQuery({ name, items })), { name, items });
      const query = { name, queries };
      assert.deepEqual(decodeContextQuery(encodeContextQuery(query)), query);
    }),
  );
  fc.assert(
    fc.property(fc.maxSafeNat(), u16, (sizeBytes, flags) => {
      assert.deepEqual(decodeExportFacts(encodeExportFacts({ sizeBytes, flags })), {
        sizeBytes,
        flags,
      });
    }),
  );
  const huge = Buffer.alloc(10, 0xff);
  assert.throws(() => decodeExportFacts(huge), violated);
});

function isData(allocated: readonly ByteRange[], at: number): boolean {
  return allocated.some((one) => at >= one.offset && at < endOf(one));
}

test("extents cover a range without gaps and say where the data are", () => {
  const size = 1000;
  const ranges = fc
    .array(fc.tuple(fc.nat(size - 1), fc.integer({ min: 1, max: 100 })), { maxLength: 20 })
    .map((pairs) =>
      mergeRanges(
        pairs.map(([offset, length]) => ({ offset, length: Math.min(length, size - offset) })),
      ),
    );
  const range = fc
    .tuple(fc.nat(size - 1), fc.integer({ min: 1, max: size }))
    .map(([offset, length]) => ({ offset, length: Math.min(length, size - offset) }));
  fc.assert(
    fc.property(ranges, range, fc.integer({ min: 1, max: 50 }), (allocated, range, countMax) => {
      const found = allocationOf(allocated, range, countMax);
      assert.ok(found.length >= 1 && found.length <= countMax);
      let at = range.offset;
      for (const { length, flags } of found) {
        assert.ok(length > 0);
        for (let byte = at; byte < at + length; byte += 1) {
          assert.equal(flags === 0, isData(allocated, byte));
        }
        at += length;
      }
      assert.ok(at === endOf(range) || found.length === countMax);
    }),
  );
});

const COOKIE = { cookieHigh: 1, cookieLow: 2 };

/** Decodes what a server sent about one request. */
function decode(pending: Pending, bytes: Buffer, cuts: readonly number[] = [], structured = true) {
  const outcomes: Outcome[] = [];
  const decoder = new ReplyDecoder(structured, {
    find: ({ cookieLow }) => (cookieLow === 2 && outcomes.length === 0 ? pending : undefined),
    done: (_cookie, outcome) => outcomes.push(outcome),
  });
  inPieces(bytes, cuts, (piece) => decoder.push(piece));
  return outcomes[0];
}

const OK = { errno: 0, message: "", descriptors: [] };

function dataChunk(offset: number, bytes: Buffer, last: boolean): Buffer {
  const whole = Buffer.concat([Buffer.alloc(DATA_HEAD_BYTES), bytes]);
  writeDataHead(whole, 0, COOKIE, { offset, length: bytes.length, last });
  return whole;
}

function holeChunk(offset: number, length: number, last: boolean): Buffer {
  const bytes = Buffer.alloc(HOLE_BYTES);
  writeHole(bytes, 0, COOKIE, { offset, length, last });
  return bytes;
}

test("a read is put together from chunks in any order and cut", () => {
  const content = pattern(100);
  content.fill(0, 40, 70);
  const chunks = [
    holeChunk(5040, 30, false),
    dataChunk(5070, content.subarray(70), false),
    dataChunk(5000, content.subarray(0, 40), true),
  ];
  fc.assert(
    fc.property(fc.array(fc.nat(), { maxLength: 20 }), (cuts) => {
      const target = Buffer.alloc(100, 9);
      const pending = { type: COMMAND.READ, offset: 5000, length: 100, target };
      assert.deepEqual(decode(pending, Buffer.concat(chunks), cuts), OK);
      assert.ok(target.equals(content));
    }),
  );
});

test("replies without structure are read by what was asked", () => {
  const target = Buffer.alloc(10);
  const read = { type: COMMAND.READ, offset: 0, length: 10, target };
  const bytes = Buffer.concat([encodeSimple(COOKIE, 0), pattern(10)]);
  assert.deepEqual(decode(read, bytes, [3, 17, 20], false), OK);
  assert.ok(target.equals(pattern(10)));
  const failed = decode(read, encodeSimple(COOKIE, ERRNO.EIO), [], false);
  assert.equal(failed?.errno, ERRNO.EIO);
  assert.throws(() => decode(read, bytes), violated);
});

test("errors and extents are read", () => {
  const read = { type: COMMAND.READ, offset: 0, length: 10, target: Buffer.alloc(10) };
  const half = Buffer.concat([dataChunk(0, pattern(4), false), encodeError(COOKIE, 28, "full")]);
  assert.deepEqual(decode(read, half), { ...OK, errno: 28, message: "full" });
  const status = { type: COMMAND.BLOCK_STATUS, offset: 0, length: 10, context: 7 };
  const descriptors = [
    { length: 4, flags: 3 },
    { length: 6, flags: 0 },
  ];
  assert.deepEqual(decode(status, encodeStatus(COOKIE, 7, descriptors)), { ...OK, descriptors });
});

test("what a server must not say is a violation", () => {
  const read = { type: COMMAND.READ, offset: 100, length: 10, target: Buffer.alloc(10) };
  const status = { type: COMMAND.BLOCK_STATUS, offset: 0, length: 10, context: 7 };
  const write = { type: COMMAND.WRITE, offset: 0, length: 10 };
  const bad: readonly (readonly [Pending, Buffer])[] = [
    [read, Buffer.alloc(20, 1)],
    [read, encodeSimple({ cookieHigh: 1, cookieLow: 3 }, 0)],
    [read, dataChunk(99, pattern(5), false)],
    [read, dataChunk(108, pattern(5), false)],
    [read, dataChunk(100, pattern(5), true)],
    [read, Buffer.concat([dataChunk(100, pattern(10), false), dataChunk(100, pattern(10), true)])],
    [read, holeChunk(100, 11, true)],
    [read, encodeStatus(COOKIE, 7, [{ length: 1, flags: 0 }])],
    [read, encodeError(COOKIE, 0, "no number")],
    [status, encodeStatus(COOKIE, 8, [{ length: 1, flags: 0 }])],
    [status, encodeStatus(COOKIE, 7, [{ length: 0, flags: 0 }])],
    [write, dataChunk(0, pattern(5), true)],
  ];
  bad.forEach(([pending, bytes], at) => {
    assert.throws(() => decode(pending, bytes), violated, `${at}`);
  });
  const long = encodeStatus(COOKIE, 7, [{ length: 1, flags: 0 }]);
  long.writeUInt32BE(2 ** 31 + 4, 16);
  assert.throws(() => decode(status, long), violated);
});

const EXPORTS = new Map<string, OfferedExport>([
  ["a", { name: "a", description: "x", sizeBytes: 10, flags: 1, preferredBytes: 4096 }],
]);

/** The option replies to options after the client's flags. */
function negotiate(...options: readonly Buffer[]) {
  const sent: Buffer[] = [];
  const negotiation = new Negotiation(EXPORTS, (bytes) => void sent.push(bytes));
  const outcome = negotiation.push(Buffer.concat([Buffer.from([0, 0, 0, 3]), ...options]));
  const replies = sent.filter(({ length }) => length >= OPTION_REPLY_HEADER_BYTES);
  return { outcome, types: replies.map((bytes) => bytes.readUInt32BE(12)) };
}

function go(name: string): Buffer {
  return encodeOption(OPTION.GO, encodeExportQuery({ name, items: [3] }));
}

test("the handshake answers each option, and refuses by name what it does not do", () => {
  const { ERR_POLICY, ERR_INVALID, ERR_UNSUP, ERR_UNKNOWN, ACK, INFO, SERVER } = REPLY;
  const set = encodeContextQuery({ name: "a", queries: ["base:allocation", "x:y"] });
  const cases: readonly (readonly [Buffer, readonly number[]])[] = [
    [encodeOption(OPTION.STARTTLS), [ERR_POLICY]],
    [encodeOption(OPTION.LIST), [SERVER, ACK]],
    [encodeOption(OPTION.LIST, Buffer.alloc(1)), [ERR_INVALID]],
    [encodeOption(77, Buffer.alloc(100)), [ERR_UNSUP]],
    [go("b"), [ERR_UNKNOWN]],
    [encodeOption(OPTION.GO, Buffer.alloc(3)), [ERR_INVALID]],
    [encodeOption(OPTION.SET_META_CONTEXT, set), [ERR_INVALID]],
  ];
  for (const [option, types] of cases) {
    assert.deepEqual(negotiate(option), { outcome: undefined, types });
  }
  assert.deepEqual(negotiate(encodeOption(OPTION.ABORT)).outcome, "aborted");
  const opened = negotiate(
    encodeOption(OPTION.STRUCTURED_REPLY),
    encodeOption(OPTION.SET_META_CONTEXT, set),
    go("a"),
    Buffer.from("more"),
  );
  assert.deepEqual(opened.types, [ACK, REPLY.META_CONTEXT, ACK, INFO, INFO, ACK]);
  const rest = Buffer.from("more");
  const agreed = { exportName: "a", structured: true, allocation: true, rest };
  assert.deepEqual(opened.outcome, agreed);
  const byName = negotiate(encodeOption(OPTION.EXPORT_NAME, Buffer.from("a"))).outcome;
  assert.deepEqual(byName, {
    ...agreed,
    structured: false,
    allocation: false,
    rest: Buffer.alloc(0),
  });
});

test("a client that breaks the handshake is dropped", () => {
  const long = encodeOption(OPTION.LIST);
  long.writeUInt32BE(65_537, 12);
  assert.throws(() => negotiate(long), violated);
  assert.throws(() => negotiate(Buffer.alloc(16)), violated);
  const many = Array.from({ length: 129 }, () => encodeOption(OPTION.LIST));
  assert.throws(() => negotiate(...many), violated);
  const unknown = encodeOption(OPTION.EXPORT_NAME, Buffer.from("b"));
  assert.throws(() => negotiate(unknown), code("nbd.export-unknown"));
  const flags = new Negotiation(EXPORTS, () => undefined);
  assert.throws(() => flags.push(Buffer.from([0, 0, 0, 4])), violated);
});

function tessera(fault: "misuse" | "environment", code: string): TesseraError {
  return new TesseraError(fault, code, "m");
}

test("errors have a number on the wire and a name on the other side", () => {
  assert.equal(errnoOf(tessera("environment", "system.disk-full")), ERRNO.ENOSPC);
  assert.equal(errnoOf(tessera("environment", "nbd.no-space")), ERRNO.ENOSPC);
  assert.equal(errnoOf(tessera("misuse", "block.read-only")), ERRNO.EPERM);
  assert.equal(errnoOf(tessera("misuse", "x.y")), ERRNO.EINVAL);
  assert.equal(errnoOf(tessera("environment", "system.io")), ERRNO.EIO);
  assert.equal(errnoOf(new Error("?")), ERRNO.EIO);
  for (const errno of Object.values(ERRNO))
    assert.match(errorOfReply(errno, "", "s").code, /^nbd\./);
  assert.equal(errorOfReply(4711, "", "s").code, "nbd.request-invalid");
});

/** The NBD server's handshake and requests, and what a client reads of a server. */
import assert from "node:assert/strict";
import { Negotiation, type OfferedExport } from "../../../src/nbd/negotiation.ts";
import {
  decodeContext,
  decodeContextQuery,
  decodeExportFacts,
  decodeExportQuery,
  decodeInfo,
  decodeSizeConstraints,
  encodeContext,
  encodeContextQuery,
  encodeExportFacts,
  encodeExportQuery,
  encodeInfo,
  encodeOption,
  encodeSizeConstraints,
} from "../../../src/nbd/options.ts";
import { COMMAND, OPTION, REQUEST_BYTES } from "../../../src/nbd/protocol.ts";
import {
  DATA_HEAD_BYTES,
  HOLE_BYTES,
  encodeError,
  encodeSimple,
  encodeStatus,
  writeDataHead,
  writeHole,
} from "../../../src/nbd/replies.ts";
import { ReplyDecoder, type Pending } from "../../../src/nbd/reply-decoder.ts";
import {
  RequestDecoder,
  encodeRequest,
  refusalOf,
  type Request,
} from "../../../src/nbd/requests.ts";
import { NUMBERS, mutate, type FuzzRandom } from "../random.ts";
import type { FuzzTarget } from "../target.ts";

const VIOLATION = ["nbd.protocol-violation"];
const SIZE_BYTES = 2 ** 20;

/** Halves that do not depend on where the bytes are cut must give the same. */
function halves(bytes: Buffer): readonly Buffer[] {
  const middle = bytes.length >>> 1;
  return [bytes.subarray(0, middle), bytes.subarray(middle)];
}

const EXPORTS = new Map<string, OfferedExport>(
  ["", "disk"].map((name) => {
    const facts = { sizeBytes: SIZE_BYTES, flags: 0xd6d, preferredBytes: 4096 };
    return [name, { name, description: "a disk", ...facts }];
  }),
);

function negotiate(pieces: readonly Buffer[]): readonly Buffer[] {
  const sent: Buffer[] = [];
  const negotiation = new Negotiation(EXPORTS, (bytes) => void sent.push(bytes));
  for (const piece of pieces) if (negotiation.push(piece) !== undefined) return sent;
  return sent;
}

const CLIENT_FLAGS = Buffer.from([0, 0, 0, 3]);
const CONTEXTS = encodeContextQuery({ name: "disk", queries: ["base:allocation", "qemu:"] });
const GO = encodeExportQuery({ name: "disk", items: [1, 2, 3] });
const OPTIONS: readonly Buffer[] = [
  encodeOption(OPTION.LIST),
  encodeOption(OPTION.STARTTLS),
  encodeOption(OPTION.STRUCTURED_REPLY),
  encodeOption(OPTION.LIST_META_CONTEXT, CONTEXTS),
  encodeOption(OPTION.SET_META_CONTEXT, CONTEXTS),
  encodeOption(OPTION.INFO, GO),
  encodeOption(OPTION.GO, GO),
  encodeOption(OPTION.EXPORT_NAME, Buffer.from("disk")),
  encodeOption(OPTION.ABORT),
];

const handshake: FuzzTarget = {
  name: "nbd-handshake",
  codes: [...VIOLATION, "nbd.export-unknown"],
  seeds: () => [Buffer.concat([CLIENT_FLAGS, ...OPTIONS])],
  generate(random) {
    const options = Array.from({ length: 1 + random.below(6) }, () => {
      const option = random.pick(OPTIONS);
      return random.chance(0.5) ? option : mutate(random, [option]);
    });
    return Buffer.concat([CLIENT_FLAGS, ...options]);
  },
  decode(input) {
    assert.deepEqual(Buffer.concat(negotiate(halves(input))), Buffer.concat(negotiate([input])));
  },
};

const request = (type: number, offset: number, length: number, flags = 0): Buffer => {
  const bytes = Buffer.alloc(REQUEST_BYTES + (type === COMMAND.WRITE ? length : 0), 7);
  encodeRequest({ flags, type, cookieHigh: 1, cookieLow: 2, offset, length }, bytes);
  return bytes;
};

const REQUESTS: readonly Buffer[] = [
  ...Object.values(COMMAND).map((type) => request(type, 0, type === COMMAND.DISC ? 0 : 512)),
  request(COMMAND.READ, 4096, 65_536, 4),
  request(COMMAND.WRITE_ZEROES, 0, SIZE_BYTES, 18),
];

/** What the server does with requests, as far as it is decided without a device. */
function readRequests(pieces: readonly Buffer[]): readonly unknown[] {
  const rules = { sizeBytes: SIZE_BYTES, readOnly: false, status: true };
  const decoder = new RequestDecoder();
  const seen: unknown[] = [];
  let left = 0;
  const step = (): boolean => {
    if (left > 0) {
      const { length } = decoder.payload(left);
      left -= length;
      return length > 0;
    }
    const next: Request | undefined = decoder.next();
    if (next === undefined) return false;
    seen.push(next, refusalOf(next, rules));
    left = next.type === COMMAND.WRITE ? next.length : 0;
    return true;
  };
  for (const piece of pieces) {
    decoder.push(piece);
    while (step());
  }
  return seen;
}

const requests: FuzzTarget = {
  name: "nbd-requests",
  codes: VIOLATION,
  seeds: () => [Buffer.concat(REQUESTS)],
  generate(random) {
    const some = Array.from({ length: 1 + random.below(5) }, () => {
      const number = (): number => random.pick(NUMBERS) % 2 ** 53;
      const type = random.below(9);
      const length = number() % (type === COMMAND.WRITE ? 4096 : 2 ** 32);
      return request(type, number(), length, random.chance(0.5) ? 0 : random.below(32));
    });
    return Buffer.concat(some);
  },
  decode(input) {
    assert.deepEqual(readRequests(halves(input)), readRequests([input]));
  },
};

const PENDING: readonly Pending[] = [
  { type: COMMAND.READ, offset: 4096, length: 1024, target: Buffer.alloc(1024) },
  { type: COMMAND.BLOCK_STATUS, offset: 0, length: 4096, context: 1 },
  { type: COMMAND.WRITE, offset: 0, length: 512 },
];

const cookie = (cookieLow: number) => ({ cookieHigh: 0, cookieLow });

function data(offset: number, length: number, last: boolean): Buffer {
  const bytes = Buffer.alloc(DATA_HEAD_BYTES + length, 5);
  writeDataHead(bytes, 0, cookie(0), { offset, length, last });
  return bytes;
}

function hole(offset: number, length: number, last: boolean): Buffer {
  const bytes = Buffer.alloc(HOLE_BYTES);
  writeHole(bytes, 0, cookie(0), { offset, length, last });
  return bytes;
}

const REPLIES: readonly Buffer[] = [
  data(4096, 512, false),
  hole(4608, 512, true),
  encodeStatus(cookie(1), 1, [{ length: 4096, flags: 3 }]),
  encodeSimple(cookie(2), 0),
  encodeError(cookie(2), 5, "it failed"),
];

/** Waits for the same requests again and again, so that any number of replies can be read. */
function readReplies(pieces: readonly Buffer[], structured: boolean): readonly unknown[] {
  const outcomes: unknown[] = [];
  const decoder = new ReplyDecoder(structured, {
    find: ({ cookieLow }) => PENDING[cookieLow],
    done: ({ cookieLow }, outcome) => outcomes.push([cookieLow, outcome]),
  });
  for (const piece of pieces) decoder.push(piece);
  return outcomes;
}

function someReplies(random: FuzzRandom): Buffer {
  const some = Array.from({ length: 1 + random.below(6) }, () => {
    const reply = random.pick(REPLIES);
    return random.chance(0.6) ? reply : mutate(random, [reply]);
  });
  return Buffer.concat(some);
}

const replies: FuzzTarget = {
  name: "nbd-replies",
  codes: VIOLATION,
  seeds: () => [Buffer.concat(REPLIES.slice(0, 4))],
  generate: (random) => someReplies(random),
  decode(input) {
    assert.deepEqual(readReplies(halves(input), true), readReplies([input], true));
  },
};

/** What is decoded of option data encodes to the same. */
function optionData(name: string, seed: Buffer, again: (input: Buffer) => Buffer): FuzzTarget {
  return {
    name,
    codes: VIOLATION,
    seeds: () => [seed],
    decode: (input) => assert.deepEqual(again(input), input),
  };
}

const FACTS = { sizeBytes: SIZE_BYTES, flags: 0xd6d };
const SIZES = { minimumBytes: 512, preferredBytes: 4096, payloadBytesMax: 2 ** 25 };

export const NBD_TARGETS: readonly FuzzTarget[] = [
  handshake,
  requests,
  replies,
  optionData("nbd-export-query", GO, (input) => encodeExportQuery(decodeExportQuery(input))),
  optionData("nbd-context-query", CONTEXTS, (input) =>
    encodeContextQuery(decodeContextQuery(input)),
  ),
  optionData("nbd-context", encodeContext({ id: 1, name: "base:allocation" }), (input) =>
    encodeContext(decodeContext(input)),
  ),
  optionData("nbd-export-facts", encodeExportFacts(FACTS), (input) =>
    encodeExportFacts(decodeExportFacts(input)),
  ),
  optionData("nbd-sizes", encodeSizeConstraints(SIZES), (input) =>
    encodeSizeConstraints(decodeSizeConstraints(input)),
  ),
  optionData("nbd-info", encodeInfo(0, encodeExportFacts(FACTS)), (input) => {
    const { type, data } = decodeInfo(input);
    return encodeInfo(type, data);
  }),
];

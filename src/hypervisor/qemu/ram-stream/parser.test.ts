/** The parser of migration streams: what it finds, and that nothing is ever lost or changed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { RamStreamEvent } from "./contract.ts";
import { COMMAND, ITEM, RAM_FLAG } from "./format.ts";
import { RamStreamParser } from "./parser.ts";
import * as make from "./stream.suite.ts";
import { eventBytes } from "./writer.ts";

const page = make.testPage;

/** All events of the stream in these pieces, neighbouring opaque ones joined. */
function parse(stream: Buffer, cuts: readonly number[] = [], flushed = false) {
  const parser = new RamStreamParser();
  const all: RamStreamEvent[] = [];
  let start = 0;
  for (const end of [...cuts.toSorted((one, other) => one - other), stream.length]) {
    all.push(...parser.push(stream.subarray(start, end)));
    if (flushed) all.push(...parser.flush());
    start = end;
  }
  all.push(...parser.flush());
  const events: RamStreamEvent[] = [];
  for (const event of all) {
    const last = events.at(-1);
    if (event.kind === "opaque" && last?.kind === "opaque") {
      const bytes = Buffer.concat([last.bytes, event.bytes]);
      events.splice(-1, 1, { kind: "opaque", bytes });
    } else {
      events.push(event);
    }
  }
  return { events, parser };
}

const written = (events: readonly RamStreamEvent[]): Buffer =>
  Buffer.concat(events.map(eventBytes));

const pagesOf = (events: readonly RamStreamEvent[]) =>
  events.flatMap((event) =>
    event.kind === "opaque" ? [] : [`${event.kind} ${event.block} ${event.address}`],
  );

const PARTS = [
  [
    { block: "pc.ram", address: 0, content: page(1) },
    { address: 4096, content: 0 },
    { block: "pc.bios", address: 8192, content: page(2) },
  ],
  [{ block: "pc.ram", address: 2 ** 40, content: page(3) }],
];
const FOUND = ["page pc.ram 0", "fill pc.ram 4096", "page pc.bios 8192", `page pc.ram ${2 ** 40}`];

test("pages are found; the rest is opaque; the stream ends with the last ram section", () => {
  const stream = make.precopyStream(PARTS, Buffer.from("state of devices"));
  const { events, parser } = parse(stream);
  assert.deepEqual(pagesOf(events), FOUND);
  assert.deepEqual(written(events), stream);
  assert.equal(parser.stage, "ended");
  assert.equal(parser.off, undefined);
});

const anyPage = fc.record(
  {
    block: fc.constantFrom("pc.ram", "\u00ffrom", ""),
    address: fc.nat(2 ** 20).map((number) => number * 4096),
    content: fc.oneof(fc.nat(255), fc.nat(50).map(page)),
  },
  { requiredKeys: ["address", "content"] },
);
const anyParts = fc.array(fc.array(anyPage, { maxLength: 8 }), { maxLength: 4 });

test("any pieces give the same events, and the events give the stream", () => {
  fc.assert(
    fc.property(
      anyParts,
      fc.uint8Array({ maxLength: 100 }),
      fc.array(fc.nat(30_000), { maxLength: 20 }),
      (parts, state, cuts) => {
        const stream = make.precopyStream(parts, state);
        const whole = parse(stream);
        const inPieces = parse(
          stream,
          cuts.map((cut) => cut % stream.length),
        );
        assert.deepEqual(inPieces.events, whole.events);
        assert.deepEqual(written(whole.events), stream);
      },
    ),
    { numRuns: 200 },
  );
});

test("byte by byte the same events; flushed after every byte the same stream, without pages", () => {
  const stream = make.precopyStream(PARTS, Buffer.from("state"));
  const cuts = Array.from({ length: stream.length - 1 }, (_, index) => index + 1);
  assert.deepEqual(parse(stream, cuts).events, parse(stream).events);
  const flushed = parse(stream, cuts, true).events;
  assert.deepEqual(flushed, [{ kind: "opaque", bytes: stream }]);
});

test("a flush costs the record in hand and nothing after it", () => {
  const stream = make.precopyStream(PARTS, Buffer.alloc(0));
  const first = stream.indexOf(page(1));
  const { events } = parse(stream, [first + 10], true);
  assert.deepEqual(pagesOf(events), FOUND.slice(1));
  assert.deepEqual(written(events), stream);
});

test("bytes that are no stream, or a broken one, come out as they went in", () => {
  fc.assert(
    fc.property(
      anyParts,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
      fc.array(fc.nat(30_000), { maxLength: 5 }),
      fc.boolean(),
      (parts, changes, cuts, flushed) => {
        const stream = make.precopyStream(parts, Buffer.alloc(9));
        for (const [at, value] of changes) stream[at % stream.length] = value;
        const places = cuts.map((cut) => cut % stream.length);
        assert.deepEqual(written(parse(stream, places, flushed).events), stream);
      },
    ),
    { numRuns: 300 },
  );
});

const ram = (pages: readonly make.TestPage[]) =>
  make.section("sectionPart", make.RAM_SECTION, make.pageRecords(pages));
const BEGIN = Buffer.concat([make.header(), make.configuration("pc"), make.ramStart({ a: 4096 })]);
const ONE = [{ block: "a", address: 0, content: page(7) }];

test("post-copy: packaged state is passed by its length, pages follow", () => {
  const advice = Buffer.alloc(16);
  advice.writeUInt32BE(4096, 4);
  advice.writeUInt32BE(4096, 12);
  const stream = Buffer.concat([
    make.header(),
    make.configuration("pc"),
    make.command(1, Buffer.alloc(0)),
    make.command(COMMAND.postcopyAdvise, advice),
    make.ramStart({ a: 4096 }),
    ram(ONE),
    make.command(6, Buffer.from("discards")),
    make.packaged(Buffer.concat([ram([]), Buffer.from("anything")])),
    ram(ONE),
  ]);
  const { events, parser } = parse(stream);
  assert.deepEqual(pagesOf(events), ["page a 0", "page a 0"]);
  assert.equal(parser.stage, "postcopy");
  assert.deepEqual(written(events), stream);
});

test("after sections of other names, pages are found again", () => {
  const foreign = Buffer.from("\u007e no footer \u0002");
  const stream = Buffer.concat([
    make.header(),
    make.configuration("pc"),
    make.newSection("sectionFull", "early", 9, 1, foreign),
    make.newSection("sectionStart", "dirty-bitmap", 3, 1, foreign),
    make.ramStart({ a: 4096 }),
    ram(ONE),
    make.section("sectionPart", 3, foreign),
    ram(ONE),
    make.section("sectionEnd", 3, foreign),
    make.packaged(Buffer.concat([foreign, make.command(COMMAND.postcopyRun, Buffer.alloc(0))])),
    ram(ONE),
  ]);
  const cuts = Array.from({ length: stream.length - 1 }, (_, index) => index + 1);
  for (const places of [[], cuts]) {
    const { events, parser } = parse(stream, places);
    assert.deepEqual(pagesOf(events), ["page a 0", "page a 0", "page a 0"]);
    assert.equal(parser.off, undefined);
    assert.deepEqual(written(events), stream);
  }
});

test("pages in other forms are opaque, and flushes of multifd are passed", () => {
  const flush = Buffer.alloc(8);
  flush.writeUInt32BE(RAM_FLAG.multifdFlush, 4);
  const records = Buffer.concat([
    make.pageRecords(ONE).subarray(0, -8),
    make.encodedRecord("xbzrle", Buffer.from("changes")),
    flush,
    make.encodedRecord("compressed", Buffer.from("deflated")),
    make.pageRecords([{ address: 4096, content: 0 }]),
  ]);
  const stream = Buffer.concat([BEGIN, make.section("sectionPart", make.RAM_SECTION, records)]);
  const { events, parser } = parse(stream);
  assert.deepEqual(pagesOf(events), ["page a 0", "fill a 4096"]);
  assert.equal(parser.off, undefined);
});

const capabilities = (name: string): Buffer =>
  make.subsection(
    "configuration/capabilities",
    Buffer.concat([make.uint32(1), Buffer.from([name.length]), Buffer.from(name)]),
  );
const CONFIGURED = Buffer.concat([make.header(), make.configuration("pc")]);
const flagged = (flags: number): Buffer => {
  const record = Buffer.alloc(8);
  record.writeUInt32BE(flags, 4);
  return Buffer.concat([BEGIN, make.section("sectionPart", make.RAM_SECTION, record)]);
};
const REST = Buffer.concat([make.footer(2), ram(ONE)]);

test("what is not known turns the feature off, with the reason", () => {
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.from("HTTP/1.1 200"), /no magic number/],
    [make.header(4), /version 4/],
    [make.header(2), /version 2/],
    [Buffer.concat([CONFIGURED, Buffer.from([0x55])]), /type 85/],
    [Buffer.concat([CONFIGURED, capabilities("x-ignore-shared")]), /x-ignore-shared/],
    [Buffer.concat([CONFIGURED, capabilities("mapped-ram")]), /mapped-ram/],
    [Buffer.concat([CONFIGURED, make.subsection("new", Buffer.alloc(4))]), /subsection new/],
    [
      Buffer.concat([
        CONFIGURED,
        make.subsection("configuration/target-page-bits", make.uint32(14)),
      ]),
      /2\^14/,
    ],
    [Buffer.concat([CONFIGURED, make.command(3, Buffer.alloc(16))]), /host/],
    [
      Buffer.concat([CONFIGURED, make.newSection("sectionStart", "ram", 2, 5, Buffer.alloc(0))]),
      /version 5/,
    ],
    [flagged(0x80), /0x80/],
    [flagged(0x400), /0x400/],
    [flagged(RAM_FLAG.page | RAM_FLAG.zero), /0xa/],
    [flagged(RAM_FLAG.page | RAM_FLAG.continue), /no block/],
  ];
  for (const [start, reason] of cases) {
    const stream = Buffer.concat([start, REST, Buffer.alloc(5000)]);
    const { events, parser } = parse(stream);
    assert.match(parser.off ?? "", reason);
    assert.equal(parser.stage, "ended");
    assert.deepEqual(events, [{ kind: "opaque", bytes: stream }]);
  }
});

test("known subsections are passed", () => {
  const stream = Buffer.concat([
    CONFIGURED,
    capabilities("return-path"),
    make.subsection("configuration/target-page-bits", make.uint32(12)),
    make.subsection("configuration/uuid", Buffer.alloc(16, 5)),
    make.ramStart({ a: 4096 }),
    ram(ONE),
    Buffer.from([ITEM.end]),
  ]);
  assert.deepEqual(pagesOf(parse(stream).events), ["page a 0"]);
});

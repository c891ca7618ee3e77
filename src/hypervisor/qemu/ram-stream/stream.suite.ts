/** Migration streams as QEMU writes them, made of parts. */
import { COMMAND, ITEM, RAM_FLAG, STREAM_MAGIC, STREAM_VERSION } from "./format.ts";
import { eventBytes } from "./writer.ts";

export const RAM_SECTION = 2;

const uint16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const uint64 = (value: number): Buffer =>
  Buffer.concat([uint32(Math.floor(value / 2 ** 32)), uint32(value % 2 ** 32)]);

const text = (value: string): Buffer =>
  Buffer.concat([Buffer.from([value.length]), Buffer.from(value, "latin1")]);

export const header = (version = STREAM_VERSION): Buffer =>
  Buffer.concat([uint32(STREAM_MAGIC), uint32(version)]);

export function configuration(machine: string): Buffer {
  return Buffer.concat([
    Buffer.from([ITEM.configuration]),
    uint32(machine.length),
    Buffer.from(machine),
  ]);
}

export function subsection(name: string, content: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([ITEM.subsection]), text(name), uint32(1), content]);
}

export function command(number: number, payload: Uint8Array): Buffer {
  return Buffer.concat([
    Buffer.from([ITEM.command]),
    uint16(number),
    uint16(payload.length),
    payload,
  ]);
}

export function packaged(state: Uint8Array): Buffer {
  return Buffer.concat([command(COMMAND.packaged, uint32(state.length)), state]);
}

export const footer = (id: number): Buffer =>
  Buffer.concat([Buffer.from([ITEM.footer]), uint32(id)]);

/** A section that begins or is full, with its footer. */
export function newSection(
  type: "sectionStart" | "sectionFull",
  name: string,
  id: number,
  version: number,
  content: Uint8Array,
): Buffer {
  const head = [Buffer.from([ITEM[type]]), uint32(id), text(name), uint32(0), uint32(version)];
  return Buffer.concat([...head, content, footer(id)]);
}

/** A section that goes on, with its footer. */
export function section(
  type: "sectionPart" | "sectionEnd",
  id: number,
  content: Uint8Array,
): Buffer {
  return Buffer.concat([Buffer.from([ITEM[type]]), uint32(id), content, footer(id)]);
}

export const END_OF_RECORDS = uint64(RAM_FLAG.end);

/** The `ram` section's beginning. */
export function ramStart(blocks: Readonly<Record<string, number>>): Buffer {
  const entries = Object.entries(blocks);
  const total = entries.reduce((sum, [, sizeBytes]) => sum + sizeBytes, 0);
  const list = entries.flatMap(([name, sizeBytes]) => [text(name), uint64(sizeBytes)]);
  const content = Buffer.concat([uint64(total + RAM_FLAG.blocks), ...list, END_OF_RECORDS]);
  return newSection("sectionStart", "ram", RAM_SECTION, 4, content);
}

export interface TestPage {
  readonly block?: string;
  readonly address: number;
  /** The page, or what fills it. */
  readonly content: Uint8Array | number;
}

/** Records of pages; a page without a block is of the block of the one before. */
export function pageRecords(pages: readonly TestPage[]): Buffer {
  const records = pages.map(({ block, address, content }) => {
    const place = { block: block ?? "", address, named: block !== undefined };
    return typeof content === "number"
      ? eventBytes({ kind: "fill", ...place, fill: content })
      : eventBytes({ kind: "page", ...place, bytes: content });
  });
  return Buffer.concat([...records, END_OF_RECORDS]);
}

/** A record of a page in another form. */
export function encodedRecord(flag: "xbzrle" | "compressed", data: Uint8Array): Buffer {
  const head = uint64(4096 + RAM_FLAG[flag] + RAM_FLAG.continue);
  const length =
    flag === "xbzrle" ? [Buffer.from([1]), uint16(data.length)] : [uint32(data.length)];
  return Buffer.concat([head, ...length, data]);
}

/** A page whose bytes follow from the number and look like no other's. */
export function testPage(number: number): Buffer {
  const page = Buffer.alloc(4096);
  let state = number * 2_654_435_761 + 12_345;
  for (let at = 0; at < page.length; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    page.writeInt32LE(state, at);
  }
  return page;
}

/** A whole stream of pre-copy: these sections of pages, then the state of devices. */
export function precopyStream(parts: readonly (readonly TestPage[])[], state: Uint8Array): Buffer {
  const sections = parts.map((pages, index) => {
    const type = index === parts.length - 1 ? "sectionEnd" : "sectionPart";
    return section(type, RAM_SECTION, pageRecords(pages));
  });
  return Buffer.concat([
    header(),
    configuration("pc-q35-7.2"),
    ramStart({ "pc.ram": 2 ** 26, "pc.bios": 2 ** 18 }),
    ...sections,
    newSection("sectionFull", "timer", 0, 2, state),
    Buffer.from([ITEM.end]),
  ]);
}

import type { RamStreamEvent } from "./contract.ts";
import { RAM_FLAG } from "./format.ts";

/**
 * The head of a page's record: all of it but the fill byte or the bytes of the page.
 *
 * @param name of the block, each character one byte, at most 255; undefined where the record goes
 *   on in the block of the record before
 */
export function pageHead(kind: "page" | "fill", address: number, name: string | undefined): Buffer {
  const head = Buffer.alloc(name === undefined ? 8 : 9 + name.length);
  const flags = RAM_FLAG[kind === "page" ? "page" : "zero"];
  head.writeUInt32BE(Math.floor(address / 2 ** 32), 0);
  head.writeUInt32BE((address % 2 ** 32) + flags + (name === undefined ? RAM_FLAG.continue : 0), 4);
  if (name === undefined) return head;
  head.writeUInt8(name.length, 8);
  head.write(name, 9, "latin1");
  return head;
}

/** The bytes of the stream that an event stands for: the inverse of the parser. */
export function eventBytes(event: RamStreamEvent): Uint8Array {
  if (event.kind === "opaque") return event.bytes;
  const head = pageHead(event.kind, event.address, event.named ? event.block : undefined);
  const body = event.kind === "page" ? event.bytes : Uint8Array.of(event.fill);
  return Buffer.concat([head, body]);
}

import { tarInvalid } from "./errors.ts";

/** Extended header records (POSIX.1-2017, "pax", section "pax Extended Header"), values as bytes. */
export type PaxRecords = ReadonlyMap<string, Buffer>;

const NEWLINE = 0x0a;

/** Values stay bytes as xattrs are binary. @throws `image.tar-invalid` (corrupt) */
export function parsePax(bytes: Buffer): PaxRecords {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(" ", at);
    const digits = space < 0 ? "" : bytes.toString("latin1", at, Math.min(space, at + 16));
    const end = at + Number(digits);
    const valid = /^[1-9][0-9]*$/.test(digits) && end > space && end <= bytes.length;
    if (!valid || bytes[end - 1] !== NEWLINE)
      throw tarInvalid("an extended header record's length");
    const equals = bytes.indexOf("=", space + 1);
    if (equals < 0 || equals >= end) throw tarInvalid("an extended header record has no value");
    const name = bytes.toString("utf8", space + 1, equals);
    records.set(name, Buffer.from(bytes.subarray(equals + 1, end - 1)));
    at = end;
  }
  return records;
}

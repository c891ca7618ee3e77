/** How the parser finds its way back after a section whose length nobody knows. */
import { COMMAND, ITEM, RAM_VERSION } from "./format.ts";

const FOOTER_BYTES = 5;
/** As many bytes before a find as decide whether it is one. */
export const LOOK_BEHIND_BYTES = 32;

/** What a section begins with in which the section `ram` starts, from its name on. */
const RAM_NAME = Buffer.from([3, ...Buffer.from("ram"), 0, 0, 0, 0, 0, 0, 0, RAM_VERSION]);
const RAM_NAME_AT = 5;
const RUN_COMMAND = Buffer.from([ITEM.command, 0, COMMAND.postcopyRun, 0, 0]);

/** True when what ends at `end` is a footer, or the command with which packaged state ends. */
function endsSection(bytes: Buffer, from: number, end: number): boolean {
  const start = end - FOOTER_BYTES;
  if (start < from) return false;
  return bytes[start] === ITEM.footer || RUN_COMMAND.equals(bytes.subarray(start, end));
}

/**
 * The position at which a `ram` section begins, right after the end of another section; undefined
 * where there is none. A find may be wrong, which costs compression and nothing else: whatever
 * bytes are taken for are given back as they were.
 *
 * @param ram number of the `ram` section; undefined before it was begun
 */
export function findRamSection(
  bytes: Buffer,
  from: number,
  ram: number | undefined,
): number | undefined {
  const [pattern, before] = ram === undefined ? [RAM_NAME, RAM_NAME_AT] : [idBytes(ram), 1];
  for (let at = bytes.indexOf(pattern, from); at !== -1; at = bytes.indexOf(pattern, at + 1)) {
    const start = at - before;
    const type = bytes[start];
    const fits =
      ram === undefined
        ? type === ITEM.sectionStart
        : type === ITEM.sectionPart || type === ITEM.sectionEnd;
    if (fits && endsSection(bytes, from, start)) return start;
  }
  return undefined;
}

function idBytes(id: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(id);
  return bytes;
}

/** One entry of an archive; the mode holds the type bits as `stat` gives them. */
export interface CpioEntry {
  readonly name: string;
  readonly mode: number;
  readonly content: Uint8Array;
}

/** An uncompressed initramfs in the "newc" format (kernel, `driver-api/early-userspace/buffer-format`). */
export function cpioOf(entries: readonly CpioEntry[]): Buffer {
  const trailer = { name: "TRAILER!!!", mode: 0, content: Buffer.alloc(0) };
  return Buffer.concat([...entries, trailer].map((entry, index) => record(entry, index + 1)));
}

function record({ name, mode, content }: CpioEntry, inode: number): Buffer {
  const sizes = [content.length, 0, 0, 0, 0, name.length + 1, 0];
  const fields = [inode, mode, 0, 0, 1, 0, ...sizes];
  const header = fields.map((field) => field.toString(16).padStart(8, "0")).join("");
  return Buffer.concat([padded(Buffer.from(`070701${header}${name}\0`)), padded(content)]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

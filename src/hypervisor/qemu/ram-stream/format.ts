/**
 * Numbers of QEMU's migration stream, version 3, as QEMU 7.2 to 10.x write it over a socket
 * (docs/devel/migration of QEMU; migration/savevm.c and migration/ram.c). All numbers of the stream
 * are big-endian.
 */

/** A page of the guest: QEMU sends x86 memory in pages of this size, huge pages or not. */
export const GUEST_PAGE_BYTES = 4096;
export const GUEST_PAGE_BITS = 12;

/** `QEVM`. */
export const STREAM_MAGIC = 0x5145_564d;
export const STREAM_VERSION = 3;

/** The first byte of what a stream consists of. */
export const ITEM = {
  end: 0x00,
  sectionStart: 0x01,
  sectionPart: 0x02,
  sectionEnd: 0x03,
  sectionFull: 0x04,
  subsection: 0x05,
  description: 0x06,
  configuration: 0x07,
  command: 0x08,
  footer: 0x7e,
} as const;

export const COMMAND = { postcopyAdvise: 3, postcopyRun: 5, packaged: 7 } as const;

/** Version of the section `ram` since QEMU 0.14. */
export const RAM_VERSION = 4;

/** Low bits of the first number of a record in a `ram` section. */
export const RAM_FLAG = {
  zero: 0x02,
  blocks: 0x04,
  page: 0x08,
  end: 0x10,
  continue: 0x20,
  xbzrle: 0x40,
  compressed: 0x100,
  multifdFlush: 0x200,
} as const;

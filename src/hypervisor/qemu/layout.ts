import { join, resolve } from "node:path";
import { TesseraError, type FileSystem } from "#core";

/** Unix sockets hold 107 bytes of path (unix(7)); some room is left for names beside. */
const PATH_BYTES_MAX = 100;

/** The files of a machine's directory. */
export interface Layout {
  readonly directory: string;
  /** The record of the launch and its process, see `record.ts`. */
  readonly record: string;
  /** Written and locked by QEMU itself: a second QEMU on this directory ends at once. */
  readonly pidFile: string;
  readonly qmpSocket: string;
  /** A second monitor, for whoever holds a hot migration. */
  readonly hotSocket: string;
  /** QEMU's NBD server, while it exports the user data block. */
  readonly dataSocket: string;
  /** What the guest writes to its first serial port, over all boots. */
  readonly console: string;
  /** QEMU's own words. */
  readonly log: string;
}

/** @throws `hypervisor.path-too-long` (misuse) */
export function layoutOf(given: string): Layout {
  const directory = resolve(given);
  const qmpSocket = join(directory, "qmp.sock");
  if (Buffer.byteLength(qmpSocket) > PATH_BYTES_MAX) {
    throw new TesseraError(
      "misuse",
      "hypervisor.path-too-long",
      `the path of the QMP socket is longer than ${PATH_BYTES_MAX} bytes`,
      { subject: qmpSocket, remedy: "keep machines in a directory with a shorter path" },
    );
  }
  return {
    directory,
    record: join(directory, "hypervisor.json"),
    pidFile: join(directory, "qemu.pid"),
    qmpSocket,
    hotSocket: join(directory, "hot.sock"),
    dataSocket: join(directory, "data.sock"),
    console: join(directory, "console.log"),
    log: join(directory, "qemu.log"),
  };
}

/** The file that receives the guest's second serial port; a launch has its own. */
export function readyFile(layout: Layout, launch: string): string {
  return join(layout.directory, `ready.${launch}`);
}

/** The process that made them must be gone. */
export async function removeSockets(files: FileSystem, layout: Layout): Promise<void> {
  for (const path of [layout.qmpSocket, layout.hotSocket, layout.dataSocket]) {
    await files.remove(path);
  }
}

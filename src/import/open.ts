/**
 * Opening an image to read it: raw and plain qcow2 by ourselves, all else by QEMU's storage daemon
 * over NBD.
 */
import { join } from "node:path";
import { openFileDevice, openQcow2Image, type BlockDevice } from "#block";
import { hasCode, TesseraError, type StartedProcess, type World } from "#core";
import { connectNbd } from "#nbd";
import { readChain, type ChainLink, type ChainOptions } from "./chain.ts";
import type { ImageFormat } from "./format.ts";
import { bytesAt, type DiskBytes } from "./source.ts";

export interface OpenedImage {
  readonly format: ImageFormat;
  readonly device: DiskBytes;
  /** Bytes of the disk outside of which all is zero. */
  allocatedBytes(): Promise<number>;
  close(): Promise<void>;
}

const EXPORT = "disk";
const WAIT_ms = 20;
const START_ms = 15_000;
/** A hostile image shall not take the host's memory, time or disk. */
const LIMITS = ["--as=3221225472", "--cpu=7200", "--fsize=16777216", "--nofile=256", "--core=0"];
const PIECE_BYTES = 131_072;
const PIECES_MAX = 256;

const SECTOR_BYTES = 512;

/** The part of a file as a node of its own. An archive fills its members up to whole sectors. */
function windowNode({ window }: ChainLink, index: number): object[] {
  if (window === undefined) return [];
  const size = Math.ceil(window.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  const place = { offset: window.offset, size, "read-only": true };
  return [{ driver: "raw", "node-name": `window${index}`, file: `file${index}`, ...place }];
}

function nodesOf(chain: readonly ChainLink[]): string[] {
  const nodes: string[] = [];
  for (const [index, link] of [...chain.entries()].toReversed()) {
    const { path, format, window } = link;
    const file = { driver: "file", "node-name": `file${index}`, filename: path, "read-only": true };
    const below = index + 1 < chain.length ? `disk${index + 1}` : null;
    const backing = format === "qcow2" ? { backing: below } : {};
    const node = {
      driver: format,
      "node-name": `disk${index}`,
      file: `${window === undefined ? "file" : "window"}${index}`,
      "read-only": true,
    };
    const all = [file, ...windowNode(link, index), { ...node, ...backing }];
    nodes.push(...all.map((item) => JSON.stringify(item)));
  }
  return nodes.flatMap((node) => ["--blockdev", node]);
}

async function startDaemon(
  world: World,
  chain: readonly ChainLink[],
  directory: string,
): Promise<{ process: StartedProcess; socket: string; logFile: string }> {
  const socket = join(directory, "disk.sock");
  const logFile = join(directory, "qemu.log");
  const args = [
    ...LIMITS,
    "--",
    "qemu-storage-daemon",
    ...nodesOf(chain),
    "--nbd-server",
    `addr.type=unix,addr.path=${socket},max-connections=2`,
    "--export",
    `type=nbd,id=export,node-name=disk0,name=${EXPORT},writable=off`,
  ];
  const process = await world.processes.start("prlimit", args, { logFile, life: "own", directory });
  return { process, socket, logFile };
}

/** Waits until it listens, or has ended and said why. */
async function untilListening(
  world: World,
  daemon: Awaited<ReturnType<typeof startDaemon>>,
  path: string,
): Promise<BlockDevice> {
  let ended: number | undefined;
  void daemon.process.exit.then((code) => (ended = code));
  for (const begin = world.clock.monotonic(); ;) {
    if (ended !== undefined) throw await notReadable(world, daemon.logFile, path);
    if ((await world.files.status(daemon.socket)) !== undefined) {
      try {
        const address = { path: daemon.socket };
        return await connectNbd(world, { address, exportName: EXPORT });
      } catch (error) {
        if (!hasCode(error, "nbd.unreachable")) throw error;
      }
    }
    if (world.clock.monotonic() - begin > START_ms)
      throw await notReadable(world, daemon.logFile, path);
    await world.clock.sleep(WAIT_ms);
  }
}

async function notReadable(world: World, logFile: string, path: string): Promise<TesseraError> {
  const log = await world.files.readFile(logFile, 65_536).catch(() => new Uint8Array());
  const said = Buffer.from(log)
    .toString("utf8")
    .trim()
    .split("\n")
    .slice(-3)
    .join("; ")
    .slice(-500);
  return new TesseraError("corrupt", "import.image-damaged", `${path} cannot be opened: ${said}`, {
    subject: path,
    remedy: "check it with qemu-img check, and that --format is right",
  });
}

/** Remembers what was read last: a request to another process costs more than it moves. */
function remembering(device: BlockDevice): DiskBytes {
  const pieces = new Map<number, Promise<Buffer>>();
  const piece = (index: number): Promise<Buffer> => {
    const offset = index * PIECE_BYTES;
    const known = pieces.get(index);
    const length = Math.min(PIECE_BYTES, device.sizeBytes - offset);
    const bytes = known ?? bytesAt(device, offset, length);
    pieces.delete(index);
    pieces.set(index, bytes);
    const [oldest] = pieces.keys();
    if (pieces.size > PIECES_MAX && oldest !== undefined) pieces.delete(oldest);
    return bytes;
  };
  return {
    sizeBytes: device.sizeBytes,
    async read(target, offset) {
      if (target.length >= PIECE_BYTES * 2) {
        await device.read(target, offset);
        return;
      }
      for (let done = 0; done < target.length;) {
        const at = offset + done;
        const start = at % PIECE_BYTES;
        const bytes = await piece(Math.floor(at / PIECE_BYTES));
        const part = bytes.subarray(start, start + target.length - done);
        target.set(part, done);
        done += part.length;
      }
    },
  };
}

async function allocatedOf(device: BlockDevice): Promise<number> {
  return (await device.allocated()).reduce((sum, { length }) => sum + length, 0);
}

/** Undefined for what QEMU is asked to read. */
async function openPlain(
  world: World,
  path: string,
  chain: readonly ChainLink[],
): Promise<BlockDevice | undefined> {
  const { format = "raw", window } = chain[0] ?? {};
  if (window !== undefined) return undefined;
  if (format === "raw") return await openFileDevice(world, path, { readOnly: true });
  if (format !== "qcow2" || chain.length > 1) return undefined;
  try {
    return await openQcow2Image(world, path);
  } catch (error) {
    if (hasCode(error, "block.overlay-unsupported")) return undefined;
    throw error;
  }
}

/** Short reads at once: an image has thousands of small files. */
function promptly(device: BlockDevice): DiskBytes {
  return {
    sizeBytes: device.sizeBytes,
    async read(target, offset) {
      if (device.readNow?.(target, offset) !== true) await device.read(target, offset);
    },
  };
}

/**
 * Opens an image, after its chain of files was judged. What opening makes lies in `directory`, an
 * empty one that the caller removes.
 *
 * @throws `import.backing-refused`, `import.unsupported` (misuse), `import.image-damaged` (corrupt),
 *   `system.program-missing` (environment)
 */
export async function openImage(
  world: World,
  path: string,
  options: ChainOptions,
  directory: string,
): Promise<OpenedImage> {
  const chain = await readChain(world, path, options);
  const format = chain[0]?.format ?? "raw";
  const plain = await openPlain(world, path, chain);
  if (plain !== undefined) {
    return {
      format,
      device: promptly(plain),
      allocatedBytes: () => allocatedOf(plain),
      close: () => plain.close(),
    };
  }
  const daemon = await startDaemon(world, chain, directory);
  const end = async (): Promise<void> => {
    world.processes.kill(daemon.process.identity, "SIGKILL");
    await daemon.process.exit;
  };
  try {
    const device = await untilListening(world, daemon, path);
    return {
      format,
      device: remembering(device),
      allocatedBytes: () => allocatedOf(device),
      close: async () => {
        await device.close();
        await end();
      },
    };
  } catch (cause) {
    await end();
    throw cause;
  }
}

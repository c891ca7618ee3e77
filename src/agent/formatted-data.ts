/**
 * User data blocks in another format than raw: `disk.FORMAT` in the machine's directory. They are read
 * by QEMU's storage daemon, which serves one over NBD for as long as it is open.
 */
import { join } from "node:path";
import { replayLog, type BlockDevice, type FormattedDisk } from "#block";
import { DISK_FORMATS, hasCode, TesseraError, type StartedProcess, type World } from "#core";
import { connectNbd } from "#nbd";

const EXPORT = "disk";
const POLL_ms = 20;
const START_ms = 30_000;
const WORDS_BYTES_MAX = 65_536;
const READER = /^r[0-9a-f]{8}\.(?:sock|log)$/;
const FORMATTED = DISK_FORMATS.filter((format) => format !== "raw");

export function formattedPath(directory: string, format: string): string {
  return join(directory, `disk.${format}`);
}

/** Undefined where the user data block is raw, or an overlay over a raw file. */
export async function formattedIn(
  { files }: World,
  directory: string,
): Promise<FormattedDisk | undefined> {
  for (const format of FORMATTED) {
    const path = formattedPath(directory, format);
    if ((await files.status(path)) !== undefined) return { path, format };
  }
  return undefined;
}

export async function removeFormatted({ files }: World, directory: string): Promise<void> {
  for (const format of FORMATTED) await files.remove(formattedPath(directory, format));
}

interface Daemon {
  readonly process: StartedProcess;
  readonly socket: string;
  readonly logFile: string;
}

/** `force-share`: the machine may run meanwhile; then what is read is of several moments. */
async function startDaemon(world: World, { path, format }: FormattedDisk): Promise<Daemon> {
  /* Short, as a socket's path is at most 107 bytes. */
  const name = `${path.slice(0, path.lastIndexOf("/"))}/r${world.random.uuid().slice(0, 8)}`;
  const [socket, logFile] = [`${name}.sock`, `${name}.log`];
  const shared = { "read-only": true, "force-share": true };
  const file = { driver: "file", "node-name": "file", filename: path, ...shared };
  const disk = { driver: format, "node-name": "disk", file: "file", ...shared };
  const nodes = [file, disk].flatMap((node) => ["--blockdev", JSON.stringify(node)]);
  const server = `addr.type=unix,addr.path=${socket},max-connections=1`;
  const exported = `type=nbd,id=export,node-name=disk,name=${EXPORT},writable=off`;
  const args = [...nodes, "--nbd-server", server, "--export", exported];
  const options = { logFile, life: "own" } as const;
  const process = await world.processes.start("qemu-storage-daemon", args, options);
  return { process, socket, logFile };
}

async function unreadable(world: World, { path }: FormattedDisk, logFile: string) {
  const log = await world.files.readFile(logFile, WORDS_BYTES_MAX).catch(() => new Uint8Array());
  const said = Buffer.from(log).toString("utf8").trim().slice(-500);
  return new TesseraError(
    "environment",
    "agent.disk-unreadable",
    `${path} cannot be read: ${said}`,
    {
      subject: path,
      remedy: "see that qemu-system-x86 is installed, and check the file with qemu-img check",
    },
  );
}

async function connect(world: World, disk: FormattedDisk, daemon: Daemon): Promise<BlockDevice> {
  const begin_ms = world.clock.monotonic();
  for (;;) {
    try {
      return await connectNbd(world, { address: { path: daemon.socket }, exportName: EXPORT });
    } catch (error) {
      if (!hasCode(error, "nbd.unreachable")) throw error;
    }
    const isOver = !world.processes.alive(daemon.process.identity);
    const isLate = world.clock.monotonic() - begin_ms > START_ms;
    if (isOver || isLate) throw await unreadable(world, disk, daemon.logFile);
    await world.clock.sleep(POLL_ms);
  }
}

function served(device: BlockDevice, end: () => Promise<void>): BlockDevice {
  return {
    sizeBytes: device.sizeBytes,
    read: (target, offset) => device.read(target, offset),
    write: (source, offset) => device.write(source, offset),
    zero: (range) => device.zero(range),
    allocated: () => device.allocated(),
    flush: () => device.flush(),
    close: async () => {
      await device.close();
      await end();
    },
  };
}

/** What readers left in a machine's directory whose agent was killed. */
export async function removeReaders({ files }: World, directory: string): Promise<void> {
  for (const name of await files.list(directory)) {
    if (READER.test(name)) await files.remove(join(directory, name));
  }
}

/**
 * The user data block in this file, read-only.
 *
 * @throws `agent.disk-unreadable` (environment), `system.program-missing`
 */
export async function openFormatted(world: World, disk: FormattedDisk): Promise<BlockDevice> {
  /* Fails where the machine runs, and then there is nothing to replay. */
  await replayLog(world, disk);
  const daemon = await startDaemon(world, disk);
  const end = async (): Promise<void> => {
    world.processes.kill(daemon.process.identity, "SIGKILL");
    await daemon.process.exit;
    for (const path of [daemon.socket, daemon.logFile]) await world.files.remove(path);
  };
  try {
    const device = await connect(world, disk, daemon);
    return served(device, end);
  } catch (cause) {
    await end();
    throw cause;
  }
}

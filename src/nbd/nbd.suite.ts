/** What the tests of this room share. */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { BlockDevice } from "#block";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { connectNbd, serveNbd, type NbdDevice, type NbdExport, type NbdServer } from "./index.ts";

export const world = realWorld();
export const run = promisify(execFile);
export const code = (expected: string) => (error: unknown) => hasCode(error, expected);

/** A folder for the sockets and files of a test file; removed in the end. */
export function folder(): (name: string) => string {
  let path = "";
  let count = 0;
  before(async () => {
    path = await mkdtemp(join(tmpdir(), "tessera-nbd-"));
  });
  after(async () => {
    await rm(path, { recursive: true, force: true });
  });
  return (name) => join(path, `${name}-${(count += 1)}`);
}

export interface Served extends AsyncDisposable {
  readonly server: NbdServer;
  readonly path: string;
  connect(name?: string, contexts?: readonly string[]): Promise<NbdDevice>;
}

/** Serves until disposed of. */
export async function serve(path: string, exports: readonly NbdExport[]): Promise<Served> {
  const quiet = { ...world, log: { ...world.log, log: () => undefined } };
  const server = await serveNbd(quiet, { address: { path }, exports });
  return {
    server,
    path,
    connect: (exportName = "", contexts = []) =>
      connectNbd(world, { address: { path }, exportName, contexts }),
    [Symbol.asyncDispose]: () => server.close(),
  };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

/** A server of others: waits until it answers, and ends it by its pid, clients or not. */
export async function startServer(
  program: string,
  args: readonly string[],
  socket: string,
): Promise<AsyncDisposable> {
  const child: ChildProcess = spawn(program, args, { stdio: "ignore" });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  while (!(await answers(socket))) {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`);
    await sleep(10);
  }
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** Bytes that repeat after no short while, none of them zero. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = 1 + ((state >>> 16) % 255);
  }
  return bytes;
}

/** The same device, which takes along what it stands on when it is closed. */
export function closingAlso(device: BlockDevice, after: () => Promise<void>): BlockDevice {
  return {
    sizeBytes: device.sizeBytes,
    read: (target, offset) => device.read(target, offset),
    write: (source, offset) => device.write(source, offset),
    zero: (range) => device.zero(range),
    allocated: () => device.allocated(),
    flush: () => device.flush(),
    async close() {
      await device.close();
      await after();
    },
  };
}

export async function contentOf(device: BlockDevice): Promise<Buffer> {
  const bytes = Buffer.alloc(device.sizeBytes);
  await device.read(bytes, 0);
  return bytes;
}

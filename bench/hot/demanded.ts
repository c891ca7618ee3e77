/**
 * How long the guest waits for a block that is still at the source, while the background copy fills
 * the link: the disk that is filled on demand over the data plane, each end a process in its own
 * network namespace. Reads of 4 KiB, one after the other, of blocks that have not come. The round
 * trip is that of the idle path, by the time of a TCP handshake.
 *
 *     node bench/hot/demanded.ts --fetch DIRECTORY HOST
 */
import { spawn } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createFileDevice, type BlockDevice } from "#block";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import {
  connectReceiver,
  loadOrCreateDataIdentity,
  startDataServer,
  type DataSource,
} from "#transfer";
import { openOnDemandDevice } from "#userdata";
import { ADDRESSES, type LinkShape } from "../transfer/link.ts";
import type { Path } from "./path.ts";

const MIB = 2 ** 20;
const SIZE_BYTES = 1024 * MIB;
const PORT = 7400;
const TOKEN = "B".repeat(43);
const SESSION = "bench";
const READ_BYTES = 4096;
const WARM_UP_MS = 4_000;
const READS = 120;
const PAUSE_MS = 37;

export interface Demanded {
  /** Of the path without load. */
  readonly roundTrip_ms: number;
  /** Of reads while nothing else is sent. */
  readonly idle_ms: number;
  readonly median_ms: number;
  readonly p95_ms: number;
  /** Of the background copy meanwhile. */
  readonly copied_bps: number;
}

const refuse = (): Promise<void> => Promise.reject(new Error("it is read only"));

/** A disk of random bytes that repeat after 64 MiB, so that they need not be kept. */
function noise(): BlockDevice {
  const period = 64 * MIB;
  const bytes = randomBytes(period);
  const whole = [{ offset: 0, length: SIZE_BYTES }];
  return {
    sizeBytes: SIZE_BYTES,
    read: async (target, offset) => {
      for (let at = 0; at < target.length;) {
        const from = (offset + at) % period;
        at += bytes.copy(target, at, from, from + target.length - at);
      }
    },
    write: refuse,
    zero: refuse,
    allocated: async () => whole,
    flush: async () => undefined,
    close: async () => undefined,
  };
}

const identity = (directory: string, side: "sender" | "receiver") =>
  loadOrCreateDataIdentity(realWorld(), join(directory, side));

async function serve(directory: string, host: string): Promise<void> {
  const device = noise();
  const peer = await identity(directory, "receiver");
  const source: Partial<DataSource> = { openBlocks: async () => device };
  await startDataServer(realWorld(), {
    identity: await identity(directory, "sender"),
    host,
    port: PORT,
    offers: [
      {
        id: SESSION,
        token: TOKEN,
        peerCertificate: peer.certificate,
        source: source as DataSource,
      },
    ],
  });
  process.stdout.write("ready\n");
}

async function handshake_ms(host: string): Promise<number> {
  const times: number[] = [];
  for (let turn = 0; turn < 9; turn += 1) {
    const begin = performance.now();
    const socket = connect({ host, port: PORT });
    await once(socket, "connect");
    times.push(performance.now() - begin);
    socket.destroy();
  }
  return quantile(times, 0.5);
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

async function openDisk(directory: string, host: string) {
  const world = realWorld();
  const [own, sender] = [
    await identity(directory, "receiver"),
    await identity(directory, "sender"),
  ];
  const receiver = connectReceiver(world, {
    identity: own,
    endpoint: { candidates: [{ host, port: PORT }], certificate: sender.certificate },
    session: SESSION,
    token: TOKEN,
    store: await openRepository(world, join(directory, "repository")),
  });
  const local = await createFileDevice(world, join(directory, "disk"), SIZE_BYTES);
  const remote = receiver.readBlocks(SIZE_BYTES);
  const disk = await openOnDemandDevice(world, { local, mapPath: join(directory, "map"), remote });
  await disk.arm({ stale: [{ offset: 0, length: SIZE_BYTES }] });
  return disk;
}

/** Times of reads at random places in the second half, which the copy does not reach in this time. */
async function readSome(disk: BlockDevice, count: number): Promise<number[]> {
  const target = Buffer.alloc(READ_BYTES);
  const half = SIZE_BYTES / 2;
  const times: number[] = [];
  for (let turn = 0; turn < count; turn += 1) {
    const begin = performance.now();
    await disk.read(target, half + READ_BYTES * randomInt(half / READ_BYTES));
    times.push(performance.now() - begin);
    await sleep(PAUSE_MS);
  }
  return times;
}

async function fetchAll(directory: string, host: string): Promise<Demanded> {
  const roundTrip_ms = await handshake_ms(host);
  const disk = await openDisk(directory, host);
  const idle = await readSome(disk, 30);
  disk.startCopy();
  await sleep(WARM_UP_MS);
  const [from, begin] = [disk.state().backgroundBytes, performance.now()];
  const times = await readSome(disk, READS);
  const copied = disk.state().backgroundBytes - from;
  return {
    roundTrip_ms,
    idle_ms: quantile(idle, 0.5),
    median_ms: quantile(times, 0.5),
    p95_ms: quantile(times, 0.95),
    copied_bps: (copied * 8000) / (performance.now() - begin),
  };
}

/** Measures at one shape of the path. */
export async function measureDemanded(path: Path, shape: LinkShape): Promise<Demanded> {
  const directory = join("/dev/shm", `tessera-demanded-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  path.shape(shape);
  await identity(directory, "sender");
  await identity(directory, "receiver");
  const run = (side: "sender" | "receiver", role: string) => {
    const args = [import.meta.filename, role, directory, ADDRESSES.sender];
    const [program, all] = path.command(side, process.execPath, args);
    return spawn(program, all, { stdio: ["ignore", "pipe", "inherit"] });
  };
  const server = run("sender", "--serve");
  try {
    await once(server.stdout, "data");
    const fetcher = run("receiver", "--fetch");
    let text = "";
    fetcher.stdout.on("data", (data: Buffer) => (text += data.toString()));
    const [status] = (await once(fetcher, "close")) as [number | null];
    if (status !== 0) throw new Error(`the reader ended with ${status}`);
    return JSON.parse(text) as Demanded;
  } finally {
    server.kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

const [role = "", directory = "", host = ""] = process.argv.slice(2);
if (role === "--serve") await serve(directory, host);
if (role === "--fetch") {
  process.stdout.write(JSON.stringify(await fetchAll(directory, host)));
  process.exit(0);
}

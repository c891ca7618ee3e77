/**
 * How fast does the data plane move bytes on this machine? A sender and a receiver, a process each,
 * over TLS on loopback; the files are in tmpfs, so that the disk is not what is measured. Prints
 * JSON: for every case the seconds, MB/s, CPU seconds per GB and the peak memory of both sides.
 *
 *     node bench/throughput.ts [--mib 1024] [--case discard,repository,user-data,compressible,...]
 *                              [--file PATH] [--dir /dev/shm]
 *
 * `discard`: a blob of random bytes to a target that forgets it; `repository`: into a repository;
 * `user-data`: a disk of random bytes into a file; `compressible`: a blob of program code at level
 * `auto`, discarded; `sparse`: a user data block of four times the size with a block of data in
 * each MiB, for the memory that it needs.
 */
import { spawn } from "node:child_process";
import { createCipheriv } from "node:crypto";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import type { BlobReference, Digest } from "#core";
import { openFileDevice } from "#block";
import { fileSource } from "#image";
import { openRepository, type ComponentStore, type Ingest } from "#repository";
import { realWorld } from "#system";
import {
  connectReceiver,
  loadOrCreateDataIdentity,
  startDataServer,
  type DataSource,
} from "#transfer";

const MIB = 2 ** 20;
const TOKEN = "A".repeat(43);
const CASES = ["discard", "repository", "user-data", "compressible", "sparse"] as const;
type Case = (typeof CASES)[number];

const world = realWorld();

interface Side {
  readonly cpu_s: number;
  readonly peakMiB: number;
}

interface Work {
  readonly directory: string;
  readonly what: Case;
  readonly path: string;
  readonly sizeBytes: number;
  readonly digest: Digest;
}

/** CPU seconds since `before` and the peak memory of this process. */
function used(before: NodeJS.CpuUsage): Side {
  const { user, system } = process.cpuUsage(before);
  return { cpu_s: (user + system) / 1e6, peakMiB: process.resourceUsage().maxRSS / 1024 };
}

function tell(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function send(work: Work): Promise<void> {
  const sender = await loadOrCreateDataIdentity(world, join(work.directory, "sender"));
  const receiver = await loadOrCreateDataIdentity(world, join(work.directory, "receiver"));
  const source: Partial<DataSource> = {
    openBlob: () => fileSource(world, work.path),
    openUserData: () => openFileDevice(world, work.path, { readOnly: true }),
  };
  const session = { id: "bench", token: TOKEN, peerCertificate: receiver.certificate };
  const server = await startDataServer(world, {
    identity: sender,
    host: "127.0.0.1",
    port: 0,
    offers: [{ ...session, source: source as DataSource }],
  });
  const before = process.cpuUsage();
  tell(server.endpoint);
  await text(process.stdin);
  tell(used(before));
  await server.close();
}

function done(): Promise<void> {
  return Promise.resolve();
}

/** A store that forgets what it is given. */
function forgetful(blob: BlobReference): ComponentStore {
  const ingest: Ingest = {
    blob,
    writtenBytes: 0,
    append: done,
    checkpoint: done,
    commit: done,
    release: done,
    abort: done,
  };
  const store: Partial<ComponentStore> = { ingest: () => Promise.resolve(ingest) };
  return store as ComponentStore;
}

async function receive(work: Work, port: number): Promise<void> {
  const blob = { digest: work.digest, sizeBytes: work.sizeBytes };
  const stored = work.what === "repository";
  const receiver = connectReceiver(world, {
    identity: await loadOrCreateDataIdentity(world, join(work.directory, "receiver")),
    endpoint: {
      candidates: [{ host: "127.0.0.1", port }],
      certificate: (await loadOrCreateDataIdentity(world, join(work.directory, "sender")))
        .certificate,
    },
    session: "bench",
    token: TOKEN,
    store: stored
      ? await openRepository(world, join(work.directory, "repository"))
      : forgetful(blob),
  });
  const signal = AbortSignal.timeout(600_000);
  const before = process.cpuUsage();
  const start_ms = performance.now();
  if (work.what === "user-data" || work.what === "sparse") {
    await receiver.fetchUserData(join(work.directory, "received.raw"), signal);
  } else await receiver.fetchBlob(blob, signal);
  const seconds = (performance.now() - start_ms) / 1000;
  tell({ ...used(before), seconds, wireBytes: receiver.wireBytes() });
  await receiver.close();
}

/** Random bytes: AES in counter mode of zeroes. Returns the digest. */
async function makeRandom(path: string, sizeBytes: number): Promise<void> {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, 1), Buffer.alloc(16));
  await using file = await open(path, "w");
  const zeroes = Buffer.alloc(MIB);
  for (let at = 0; at < sizeBytes; at += MIB) {
    await file.write(cipher.update(zeroes), 0, Math.min(MIB, sizeBytes - at), at);
  }
}

/** The program code of Node itself, again and again. */
async function makeCode(path: string, sizeBytes: number): Promise<void> {
  const code = await readFile(process.execPath);
  await using file = await open(path, "w");
  for (let at = 0; at < sizeBytes; at += code.length) {
    await file.write(code, 0, Math.min(code.length, sizeBytes - at), at);
  }
}

/** One block of random bytes in every MiB of a file that has holes for the rest. */
async function makeSparse(path: string, sizeBytes: number): Promise<void> {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, 2), Buffer.alloc(16));
  await using file = await open(path, "w");
  await file.truncate(sizeBytes);
  for (let at = 0; at < sizeBytes; at += MIB) {
    await file.write(cipher.update(Buffer.alloc(65_536)), 0, 65_536, at);
  }
}

function digestOf(path: string): Promise<Digest> {
  const child = spawn("sha256sum", [path], { stdio: ["ignore", "pipe", "inherit"] });
  return text(child.stdout).then((line): Digest => `sha256:${line.slice(0, 64)}`);
}

/** The last line of a side's output. */
function startSide(...args: readonly string[]) {
  const flags =
    process.env["TESSERA_PROFILE"] === undefined
      ? []
      : ["--cpu-prof", "--cpu-prof-dir=" + process.env["TESSERA_PROFILE"]];
  const child = spawn(process.execPath, [...flags, import.meta.filename, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines: string[] = [];
  const first = Promise.withResolvers<string>();
  const ended = (async () => {
    let rest = "";
    for await (const chunk of child.stdout.setEncoding("utf8")) {
      const parts = `${rest}${chunk as string}`.split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts);
      if (lines[0] !== undefined) first.resolve(lines[0]);
    }
    const last = lines.at(-1);
    if (last === undefined) throw new Error(`${args[0]} said nothing`);
    return JSON.parse(last) as Side & { readonly seconds?: number; readonly wireBytes?: number };
  })();
  ended.catch((error: unknown) => first.reject(error));
  return { first: first.promise, ended, finish: () => child.stdin.end() };
}

async function measure(work: Work): Promise<object> {
  const description = JSON.stringify(work);
  const sender = startSide("--send", description);
  const endpoint = JSON.parse(await sender.first) as { candidates: { port: number }[] };
  const port = String(endpoint.candidates[0]?.port);
  const receiver = startSide("--receive", description, "--port", port);
  const received = await receiver.ended;
  sender.finish();
  const sent = await sender.ended;
  const dataBytes = work.what === "sparse" ? work.sizeBytes / 16 : work.sizeBytes;
  const seconds = received.seconds ?? Number.NaN;
  return {
    case: work.what,
    MB: Math.round(dataBytes / 1e6),
    seconds: Number(seconds.toFixed(3)),
    MBps: Math.round(dataBytes / 1e6 / seconds),
    wireMB: Number(((received.wireBytes ?? Number.NaN) / 1e6).toFixed(1)),
    senderCpuPerGB: Number(((sent.cpu_s * 1e9) / dataBytes).toFixed(2)),
    receiverCpuPerGB: Number(((received.cpu_s * 1e9) / dataBytes).toFixed(2)),
    senderPeakMiB: Math.round(sent.peakMiB),
    receiverPeakMiB: Math.round(received.peakMiB),
  };
}

const MAKERS: Readonly<Record<Case, (path: string, sizeBytes: number) => Promise<void>>> = {
  discard: makeRandom,
  repository: makeRandom,
  "user-data": makeRandom,
  compressible: makeCode,
  sparse: makeSparse,
};

async function runCase(
  what: Case,
  options: { readonly sizeBytes: number; readonly parent: string; readonly file?: string },
): Promise<object> {
  const directory = await mkdtemp(join(options.parent, "tessera-throughput-"));
  try {
    const path = options.file ?? join(directory, "sent");
    const sizeBytes = what === "sparse" ? 4 * options.sizeBytes : options.sizeBytes;
    if (options.file === undefined) await MAKERS[what](path, sizeBytes);
    await using file = await open(path);
    const { size } = await file.stat();
    await loadOrCreateDataIdentity(world, join(directory, "sender"));
    await loadOrCreateDataIdentity(world, join(directory, "receiver"));
    const digest = what === "repository" ? await digestOf(path) : `sha256:${"0".repeat(64)}`;
    return await measure({ directory, what, path, sizeBytes: size, digest: digest as Digest });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const { values } = parseArgs({
  options: {
    mib: { type: "string", default: "1024" },
    case: { type: "string", default: CASES.join(",") },
    file: { type: "string" },
    dir: { type: "string", default: "/dev/shm" },
    send: { type: "string" },
    receive: { type: "string" },
    port: { type: "string", default: "0" },
  },
});

if (values.send !== undefined) await send(JSON.parse(values.send) as Work);
else if (values.receive !== undefined) {
  await receive(JSON.parse(values.receive) as Work, Number(values.port));
} else {
  const results: object[] = [];
  const sizeBytes = Number(values.mib) * MIB;
  const file = values.file === undefined ? {} : { file: values.file };
  for (const what of values.case.split(",") as Case[]) {
    results.push(await runCase(what, { sizeBytes, parent: values.dir || tmpdir(), ...file }));
  }
  process.stdout.write(`${JSON.stringify(results, undefined, 2)}\n`);
}

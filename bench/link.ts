/**
 * The data plane over a slow and over a long path, in one process over a relay that limits the rate
 * and delays every byte. Prints JSON:
 *
 * - `demanded`: how long a blob of 4 KiB takes while another stream fills a link of 20 Mbit/s, when
 *   it is demanded and when it is not, against an idle link;
 * - `long`: the rate of one stream over a path of 150 ms and 200 Mbit/s, and the connections used.
 *
 *     node bench/link.ts [demanded] [long]
 */
import { createHash, randomBytes } from "node:crypto";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadOrCreateDataIdentity } from "../src/transfer/identity.ts";
import { Lanes } from "../src/transfer/lanes.ts";
import { PRIORITY, TIMING, TYPE, type Priority } from "../src/transfer/protocol.ts";
import type { Receiver } from "../src/transfer/receiver-streams.ts";
import { startDataServer } from "../src/transfer/server.ts";
import type { DataSource } from "#transfer";
import type { Digest } from "#core";
import { realWorld } from "#system";

const MIB = 2 ** 20;
const world = realWorld();
const TOKEN = "B".repeat(43);

/** One direction: a rate, a delay, and a queue of at most 100 ms, after which it takes no more. */
function carry(from: Socket, to: Socket, bytesPerSecond: number, delay_ms: number): void {
  let free_ms = performance.now();
  const queue: { readonly at_ms: number; readonly chunk: Buffer }[] = [];
  const deliver = (): void => {
    const now_ms = performance.now();
    while (queue[0] !== undefined && queue[0].at_ms <= now_ms) {
      const next = queue.shift();
      if (next !== undefined && !to.destroyed) to.write(next.chunk);
    }
    if (queue[0] !== undefined) setTimeout(deliver, queue[0].at_ms - now_ms);
  };
  from.on("data", (chunk: Buffer) => {
    const now_ms = performance.now();
    free_ms = Math.max(free_ms, now_ms) + (chunk.length * 1000) / bytesPerSecond;
    queue.push({ at_ms: free_ms + delay_ms, chunk });
    if (queue.length === 1) setTimeout(deliver, free_ms + delay_ms - now_ms);
    if (free_ms - now_ms < 100) return;
    from.pause();
    setTimeout(() => from.resume(), free_ms - now_ms - 50);
  });
  from.on("close", () => to.destroy());
  from.on("error", () => to.destroy());
}

function relay(port: number, bitsPerSecond: number, delay_ms: number) {
  const server = createServer({ noDelay: true }, (client) => {
    const target = connect({ host: "127.0.0.1", port, noDelay: true });
    carry(client, target, bitsPerSecond / 8, delay_ms);
    carry(target, client, bitsPerSecond / 8, delay_ms);
  });
  return new Promise<{ readonly port: number; close(): void }>((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      resolve({ port: (server.address() as AddressInfo).port, close: () => server.close() });
    });
  });
}

function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Fetches a blob and forgets it; returns the seconds. */
async function fetchBlob(receiver: Receiver, digest: Digest, priority: Priority): Promise<number> {
  const start_ms = performance.now();
  const stream = receiver.open({ kind: "blob", digest, offset: 0, priority });
  for await (const frame of stream.frames()) {
    if (frame.type === TYPE.ERROR) throw new Error("refused");
    stream.recycle(frame);
  }
  return (performance.now() - start_ms) / 1000;
}

interface Link {
  readonly lanes: Lanes;
  readonly small: Digest;
  readonly large: Digest;
}

async function overLink<T>(
  link: { readonly bitsPerSecond: number; readonly delay_ms: number; readonly largeBytes: number },
  work: (link: Link) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-link-"));
  const sender = await loadOrCreateDataIdentity(world, join(directory, "sender"));
  const identity = await loadOrCreateDataIdentity(world, join(directory, "receiver"));
  const small = randomBytes(4096);
  const piece = randomBytes(MIB);
  const large = digestOf(piece);
  const source: Partial<DataSource> = {
    openBlob: (digest) =>
      Promise.resolve({
        sizeBytes: digest === large ? link.largeBytes : small.length,
        read: (target, position) => {
          const from = digest === large ? piece : small;
          target.set(from.subarray(position % MIB, (position % MIB) + target.length));
          return Promise.resolve();
        },
        close: () => Promise.resolve(),
      }),
  };
  const offer = { id: "bench", token: TOKEN, peerCertificate: identity.certificate };
  const server = await startDataServer(world, {
    identity: sender,
    host: "127.0.0.1",
    port: 0,
    offers: [{ ...offer, source: source as DataSource }],
  });
  const path = await relay(
    server.endpoint.candidates[0]?.port ?? 0,
    link.bitsPerSecond,
    link.delay_ms,
  );
  const lanes = new Lanes(world, {
    identity,
    endpoint: {
      candidates: [{ host: "127.0.0.1", port: path.port }],
      certificate: sender.certificate,
    },
    session: "bench",
    token: TOKEN,
    timing: TIMING,
  });
  try {
    return await work({ lanes, small: digestOf(small), large });
  } finally {
    lanes.close();
    path.close();
    await server.close();
    await rm(directory, { recursive: true });
  }
}

function summary(times: readonly number[]) {
  const sorted = times.toSorted((a, b) => a - b).map((seconds) => Math.round(seconds * 1000));
  return { median_ms: sorted[Math.floor(sorted.length / 2)], most_ms: sorted.at(-1) };
}

async function demanded(): Promise<object> {
  const rate = { bitsPerSecond: 20e6, delay_ms: 5, largeBytes: 64 * MIB };
  return await overLink(rate, async ({ lanes, small, large }) => {
    const receiver = await lanes.acquire(AbortSignal.timeout(120_000));
    const repeat = async (priority: Priority): Promise<object> => {
      const times: number[] = [];
      for (let turn = 0; turn < 20; turn += 1) {
        times.push(await fetchBlob(receiver, small, priority));
        await world.clock.sleep(37);
      }
      return summary(times);
    };
    const idle = await repeat(PRIORITY.demanded);
    const bulk = fetchBlob(receiver, large, PRIORITY.background);
    await world.clock.sleep(3_000);
    const busy = await repeat(PRIORITY.demanded);
    const equal = await repeat(PRIORITY.background);
    const seconds = await bulk;
    const bulkMbps = (rate.largeBytes * 8) / 1e6 / seconds;
    return { case: "demanded", idle, demanded: busy, background: equal, bulkMbps };
  });
}

async function long(): Promise<object> {
  const rate = { bitsPerSecond: 200e6, delay_ms: 75, largeBytes: 256 * MIB };
  return await overLink(rate, async ({ lanes, large }) => {
    const receiver = await lanes.acquire(AbortSignal.timeout(120_000));
    const seconds = await fetchBlob(receiver, large, PRIORITY.background);
    lanes.succeeded();
    const Mbps = (rate.largeBytes * 8) / 1e6 / seconds;
    return { case: "long", Mbps, seconds, roundTrip_ms: receiver.connection.roundTrip_ms };
  });
}

const wanted = process.argv.slice(2);
for (const [name, work] of Object.entries({ demanded, long })) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  process.stdout.write(`${JSON.stringify(await work())}\n`);
}

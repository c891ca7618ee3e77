/** A hypervisor at the source of a tunnel, for tests. */
import { once } from "node:events";
import { PassThrough } from "node:stream";
import type { DataSource, MemoryTunnel } from "./contract.ts";
import { soon, sourceOf } from "./fixture.suite.ts";

/** The source's hypervisor: writes to one pipe, reads replies from another. */
export function hypervisor() {
  const out = new PassThrough({ highWaterMark: 64 * 1024 });
  const replies: Buffer[] = [];
  const closed = Promise.withResolvers<unknown>();
  const carried: boolean[] = [];
  let gate: Promise<void> = Promise.resolve();
  const tunnel: MemoryTunnel = {
    chunks: out,
    reply: async (bytes) => {
      await gate;
      replies.push(Buffer.from(bytes));
    },
    close: (reason) => {
      closed.resolve(reason);
      out.destroy();
      return Promise.resolve();
    },
    carried: (isCarried) => void carried.push(isCarried),
  };
  const source: DataSource = { ...sourceOf([]), openMemory: () => Promise.resolve(tunnel) };
  return {
    source,
    out,
    replies,
    carried,
    closed: closed.promise,
    holdReplies: (until: Promise<void>) => {
      gate = until;
    },
    write: async (bytes: Uint8Array) => {
      if (!out.write(bytes)) await once(out, "drain");
    },
  };
}

/** Returns once it is so. */
export async function until(condition: () => boolean): Promise<void> {
  const signal = soon();
  while (!condition()) {
    signal.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

import { createHash } from "node:crypto";
import type { Digest } from "#core";
import type { ByteSink, ContentSource } from "./contract.ts";

const BUFFER_BYTES = 1024 * 1024;

/** Gathers bytes into large writes, counts and hashes them. The sink's bytes are used again. */
export interface Output {
  write(bytes: Uint8Array): Promise<void>;
  /**
   * Appends a part of a content; the rest by default. Contents are read side by side; a failure to
   * read comes out of a later call.
   */
  copy(content: ContentSource, position?: number, length?: number): Promise<void>;
  /** Appends zeroes up to a multiple of `blockBytes`. */
  pad(blockBytes: number): Promise<void>;
  position(): number;
  /** Writes what is gathered; the digest of all. To be called once. */
  end(): Promise<Digest>;
}

export function outputTo(sink: ByteSink): Output {
  const buffer = new Uint8Array(BUFFER_BYTES);
  const hasher = createHash("sha256");
  let reads: Promise<void>[] = [];
  let used = 0;
  let flushed = 0;
  const flush = async (): Promise<void> => {
    await Promise.all(reads);
    reads = [];
    const bytes = buffer.subarray(0, used);
    /* Hashed while it is written. */
    const written = sink.write(bytes);
    written.catch(() => undefined);
    hasher.update(bytes);
    await written;
    flushed += used;
    used = 0;
  };
  /** Hands out room for up to `length` bytes, which count as written. */
  const room = async (length: number): Promise<Uint8Array> => {
    if (used === BUFFER_BYTES) await flush();
    const start = used;
    used += Math.min(length, BUFFER_BYTES - used);
    return buffer.subarray(start, used);
  };
  return {
    async write(bytes) {
      for (let done = 0; done < bytes.length;) {
        const target = await room(bytes.length - done);
        target.set(bytes.subarray(done, done + target.length));
        done += target.length;
      }
    },
    async copy(content, position = 0, length = content.sizeBytes - position) {
      for (let done = 0; done < length;) {
        const target = await room(length - done);
        const read = content.read(target, position + done);
        /* `flush` throws it; until then nobody waits for it. */
        read.catch(() => undefined);
        reads.push(read);
        done += target.length;
      }
    },
    async pad(blockBytes) {
      const rest = (flushed + used) % blockBytes;
      for (let left = rest === 0 ? 0 : blockBytes - rest; left > 0;) {
        const target = await room(left);
        target.fill(0);
        left -= target.length;
      }
    },
    position: () => flushed + used,
    async end() {
      if (used > 0) await flush();
      return `sha256:${hasher.digest("hex")}`;
    },
  };
}

import type { BlobReference } from "#core";
import { corrupt, protocolBroken, unreachable } from "./errors.ts";
import { digestOf } from "./manifests.ts";
import type { Session } from "./session.ts";
import type { WireAnswer } from "./wire.ts";

/** Where a blob's bytes go, in order; `writtenBytes` is where to go on. */
export interface BlobTarget {
  readonly writtenBytes: number;
  append(bytes: Uint8Array): Promise<void>;
}

/**
 * Fetches a blob from where the target is on, over as many connections as it takes. Whoever owns
 * the target compares the digest.
 *
 * @throws `registry.protocol` (peer) when the registry lies about sizes or ranges
 */
export async function downloadBlob(
  session: Session,
  blob: BlobReference,
  target: BlobTarget,
  onBytes: (doneBytes: number) => void,
): Promise<void> {
  await session.persistently(async (progressed) => {
    while (target.writtenBytes < blob.sizeBytes) {
      const from = target.writtenBytes;
      const answer = await session.send({
        method: "GET",
        to: `blobs/${blob.digest}`,
        headers: from === 0 ? {} : { range: `bytes=${from}-` },
      });
      await take(session, { blob, answer, from }, target, (doneBytes) => {
        progressed();
        onBytes(doneBytes);
      });
      if (target.writtenBytes === from) throw unreachable(session.host, "it sends nothing");
    }
  });
}

interface Part {
  readonly blob: BlobReference;
  readonly answer: WireAnswer;
  readonly from: number;
}

async function take(
  session: Session,
  part: Part,
  target: BlobTarget,
  onBytes: (doneBytes: number) => void,
): Promise<void> {
  const { blob, answer } = part;
  const wrong = faultOf(part);
  if (wrong !== undefined) {
    answer.discard();
    throw protocolBroken(session.host, `${wrong} (blob ${blob.digest})`);
  }
  // A registry that knows no ranges begins anew: what is there already is passed over.
  let skip = answer.status === 200 ? part.from : 0;
  for await (const chunk of answer.chunks()) {
    const fresh = chunk.subarray(Math.min(skip, chunk.length));
    skip -= chunk.length - fresh.length;
    if (fresh.length === 0) continue;
    if (target.writtenBytes + fresh.length > blob.sizeBytes) {
      answer.discard();
      throw protocolBroken(session.host, `sends more than the blob ${blob.digest} has`);
    }
    await target.append(fresh);
    onBytes(target.writtenBytes);
  }
}

/** What is wrong with an answer before its body is read. */
function faultOf({ blob, answer, from }: Part): string | undefined {
  const { status, headers } = answer;
  const announced = headers["content-length"];
  if (status === 404) return "has not the blob that its manifest names";
  if (status === 200) {
    const lies = announced !== undefined && Number(announced) !== blob.sizeBytes;
    return lies ? `announces ${announced} bytes of ${blob.sizeBytes}` : undefined;
  }
  if (status !== 206) return `answers ${status}`;
  const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(headers["content-range"] ?? "");
  if (range === null || from === 0) return "sends a range that was not asked for";
  const [first, last, total] = [Number(range[1]), Number(range[2]), range[3]];
  if (first !== from || last < first || last >= blob.sizeBytes) return "sends another range";
  if (total !== "*" && Number(total) !== blob.sizeBytes) return `says that it has ${total} bytes`;
  const wrong = announced !== undefined && Number(announced) !== last - first + 1;
  return wrong ? `announces ${announced} bytes for ${last - first + 1}` : undefined;
}

/**
 * The whole of a small blob, whose digest is right.
 *
 * @throws `registry.manifest-corrupt` (corrupt), and as {@link downloadBlob}
 */
export async function readBlob(session: Session, blob: BlobReference): Promise<Uint8Array> {
  const content = new Uint8Array(blob.sizeBytes);
  let writtenBytes = 0;
  const target = {
    get writtenBytes() {
      return writtenBytes;
    },
    append: (bytes: Uint8Array) => {
      content.set(bytes, writtenBytes);
      writtenBytes += bytes.length;
      return Promise.resolve();
    },
  };
  await downloadBlob(session, blob, target, () => undefined);
  const found = digestOf(content);
  if (found !== blob.digest) throw corrupt(session.host, blob.digest, found);
  return content;
}

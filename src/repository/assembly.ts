import { hasCode, type BlobReference, type Digest, type OpenFile } from "#core";
import type { Assembly } from "./contract.ts";
import {
  ASSEMBLY_RECORD_BYTES_MAX,
  decodeAssembly,
  encodeAssembly,
  STATE_BYTES_MAX,
} from "./assembly-state.ts";
import { assemblyState, digestMismatch, ingestClosed, sizeMismatch } from "./failures.ts";
import type { Lock } from "./locks.ts";
import { deletePart, OpenPart, requireSpace, type PartRoom } from "./part.ts";
import { PrefixHash } from "./prefix.ts";

/** Opens the assembly of a blob that is not held; the caller has its lock and its lease. */
export async function openAssembly(
  room: PartRoom,
  blob: BlobReference,
  lock: Lock,
): Promise<Assembly> {
  await deletePart(room, blob, "appended");
  const { file, state } = (await reopen(room, blob)) ?? (await begin(room, blob));
  try {
    const { allocatedBytes, inode } = await file.status();
    await requireSpace(room, blob, allocatedBytes);
    const part = new OpenPart(room, blob, "assembled", { file, lock });
    return new PartAssembly(part, inode, state);
  } catch (error) {
    await file.close();
    throw error;
  }
}

interface Opened {
  readonly file: OpenFile;
  readonly state: Uint8Array | undefined;
}

/** The file and its state, when both are whole and belong together. */
async function reopen({ world, layout }: PartRoom, blob: BlobReference) {
  let file: OpenFile | undefined;
  try {
    const path = layout.assemblyState(blob.digest);
    const record = decodeAssembly(await world.files.readFile(path, ASSEMBLY_RECORD_BYTES_MAX));
    file = await world.files.open(layout.assembly(blob.digest), "write");
    const { sizeBytes, inode } = await file.status();
    const same = sizeBytes === blob.sizeBytes && sizeBytes === record.sizeBytes;
    if (same && inode === record.inode) return { file, state: record.state };
    await file.close();
    return undefined;
  } catch (error) {
    await file?.close();
    if (isUnusable(error)) return undefined;
    throw error;
  }
}

function isUnusable(error: unknown): boolean {
  return (
    hasCode(error, "system.not-found") ||
    hasCode(error, "system.too-large") ||
    hasCode(error, "repository.json-invalid")
  );
}

/** The old state goes before the new file comes, so that it never describes it. */
async function begin(room: PartRoom, blob: BlobReference): Promise<Opened> {
  await deletePart(room, blob, "assembled");
  const file = await room.world.files.open(room.layout.assembly(blob.digest), "exclusive");
  try {
    await file.truncate(blob.sizeBytes);
    return { file, state: undefined };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** An open assembly. Writes go side by side; all else happens in the order of the calls. */
class PartAssembly implements Assembly {
  readonly blob: BlobReference;
  readonly state: Uint8Array | undefined;
  readonly #part: OpenPart;
  readonly #inode: number;
  readonly #hash: PrefixHash;
  readonly #writing = new Set<Promise<void>>();
  /** From the call that ends it: what is hashed or kept must not change under it. */
  #ending = false;

  constructor(part: OpenPart, inode: number, state: Uint8Array | undefined) {
    this.blob = part.blob;
    this.state = state;
    this.#part = part;
    this.#inode = inode;
    this.#hash = new PrefixHash(part.file);
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    const part = this.#part;
    this.#requireOpen();
    this.#requireWithin(bytes.length, position);
    this.#hash.changed(position);
    const writing = part.guarded(() => part.file.write(bytes, position));
    this.#writing.add(writing);
    try {
      await writing;
    } finally {
      this.#writing.delete(writing);
    }
  }

  async read(target: Uint8Array, position: number): Promise<void> {
    this.#requireOpen();
    this.#requireWithin(target.length, position);
    const length = await this.#part.file.read(target, position);
    if (length < target.length) throw sizeMismatch(this.blob, position + length);
  }

  settled(upTo: number): void {
    this.#requireOpen();
    this.#hash.advance(Math.min(upTo, this.blob.sizeBytes));
  }

  checkpoint(state: Uint8Array): Promise<void> {
    const part = this.#part;
    return part.inOrder(async () => {
      part.requireOpen();
      if (state.length > STATE_BYTES_MAX) throw assemblyState(this.blob, state.length);
      await this.#written();
      part.requireOpen();
      await part.guarded(() => this.#makeDurable(state));
    });
  }

  commit(): Promise<void> {
    const part = this.#part;
    this.#ending = true;
    return part.inOrder(async () => {
      part.requireOpen();
      await this.#written();
      part.requireOpen();
      const digest = await part.guarded(() => this.#digest());
      if (digest !== this.blob.digest) {
        await part.delete();
        throw digestMismatch(this.blob, digest);
      }
      await part.guarded(() => part.publish());
      await part.end();
    });
  }

  release(): Promise<void> {
    return this.#end(() => this.#part.end());
  }

  abort(): Promise<void> {
    return this.#end(() => this.#part.delete());
  }

  #end(work: () => Promise<void>): Promise<void> {
    this.#ending = true;
    return this.#part.inOrder(async () => {
      if (this.#part.state === "ended") return;
      await this.#written();
      await this.#hash.stop();
      await work();
    });
  }

  /** Hashes and syncs at once: the disk is busy while the processor is. */
  async #digest(): Promise<Digest> {
    const [digest, synced] = await Promise.allSettled([
      this.#hash.finish(this.blob.sizeBytes),
      this.#part.file.sync(),
    ]);
    if (synced.status === "rejected") throw synced.reason;
    if (digest.status === "rejected") throw digest.reason;
    return digest.value;
  }

  /** Waits for the writes that were begun; their callers hear of what fails. */
  async #written(): Promise<void> {
    await Promise.allSettled(this.#writing);
  }

  #requireOpen(): void {
    this.#part.requireOpen();
    if (this.#ending) throw ingestClosed(this.blob, "is ending");
  }

  #requireWithin(length: number, position: number): void {
    const end = position + length;
    if (position < 0 || end > this.blob.sizeBytes) throw sizeMismatch(this.blob, end);
  }

  async #makeDurable(state: Uint8Array): Promise<void> {
    const { room, file } = this.#part;
    await file.sync();
    const { sizeBytes } = this.blob;
    const record = encodeAssembly({ sizeBytes, inode: this.#inode, state });
    await room.world.files.writeFileAtomic(room.layout.assemblyState(this.blob.digest), record);
  }
}

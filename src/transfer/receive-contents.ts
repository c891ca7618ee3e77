import { pipelined } from "#core";
import { decodeDifference } from "#delta";
import type { ComponentStore, ContentsReader } from "#repository";
import type { MemoryBudget } from "./budget.ts";
import type { BufferPool } from "./buffers.ts";
import { decompress } from "./compression.ts";
import { packInvalid, type ContentsTarget } from "./contents-target.ts";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { heldTuples } from "./held-parts.ts";
import { ContentsEndSchema, ContentsOpenedSchema, decodeBytes, decodeJson } from "./messages.ts";
import { OtherPacks, OwnContents, ownReader } from "./own-contents.ts";
import { decodePack, type PackHead, type PackScope } from "./pack.ts";
import { referenceBytes, slicePlan } from "./pack-plan.ts";
import { FLAG_DICTIONARY, FLAG_ZSTD, HEADER_BYTES, TYPE } from "./protocol.ts";
import type { IncomingStream, Receiver } from "./receiver-streams.ts";
import { decompressFrame, decompressUpTo, dictionaryOf } from "./solid.ts";

/** Packs and direct frames in hand; their memory is bounded besides. */
const PIPELINE_DEPTH = 6;
const SPARE_BYTES = 2 ** 20;

/** What a stream of contents needs of this side. */
export interface ContentsPlace {
  readonly store: Pick<ComponentStore, "recipe" | "openContents">;
  readonly memory: MemoryBudget;
  readonly buffers: BufferPool;
}

/** What has come and is to be decoded. */
interface Unit {
  readonly head: PackHead;
  /** In the pack's raw bytes. */
  readonly from: number;
  readonly to: number;
  /** Of a pack that is not direct. */
  readonly encoded?: Uint8Array;
  /** Of a direct pack: released when its bytes have been taken. */
  readonly frame?: Frame;
  readonly wireBytes: number;
}

/** Bases to read references from. */
interface Bases {
  readonly scope: PackScope;
  /** The component itself is the last where packs may refer to it. */
  readonly readers: readonly Pick<ContentsReader, "read">[];
  /** How many there are, besides the component itself. */
  readonly count: number;
  close(): Promise<void>;
}

async function openBases(place: ContentsPlace, target: ContentsTarget): Promise<Bases> {
  const { store } = place;
  const { request } = target;
  const recipes = await Promise.all(request.bases.map((id) => store.recipe(id)));
  const opened = await Promise.allSettled(request.bases.map((id) => store.openContents(id)));
  const readers = opened.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  const failed = opened.find((one) => one.status === "rejected");
  if (failed !== undefined) {
    await Promise.allSettled(readers.map((reader) => reader.close()));
    throw failed.reason;
  }
  const own = ownReader(target);
  const bases = recipes.map(({ recipe }) => recipe);
  const all = own === undefined ? bases : [...bases, request.recipe];
  return {
    scope: { component: request.recipe, bases: all },
    readers: own === undefined ? readers : [...readers, own],
    count: bases.length,
    close: async () => {
      await Promise.allSettled(readers.map((reader) => reader.close()));
    },
  };
}

/** One stream of contents over one connection. */
class ContentsReceiver {
  readonly #stream: IncomingStream;
  readonly #target: ContentsTarget;
  readonly #place: ContentsPlace;
  readonly #bases: Bases;
  readonly #signal: AbortSignal;
  /** Absent where packs may not refer to what came before. */
  readonly #own: OwnContents | undefined;
  /** Memory in use, by unit; what is left at the end is given back. */
  readonly #frees = new Map<Unit, () => void>();
  #start: number;

  constructor(
    stream: IncomingStream,
    target: ContentsTarget,
    bases: Bases,
    place: ContentsPlace,
    signal: AbortSignal,
  ) {
    this.#stream = stream;
    this.#target = target;
    this.#bases = bases;
    this.#place = place;
    this.#signal = signal;
    this.#start = target.position;
    if (ownReader(target) !== undefined) this.#own = new OwnContents(target, bases.count);
  }

  /** Receives up to END. */
  async run(onStop: () => void, onPiece: () => void): Promise<void> {
    const work = async (unit: Unit) => ({ unit, raw: await this.#decode(unit) });
    try {
      for await (const { unit, raw } of pipelined(this.#units(), PIPELINE_DEPTH, work, onStop)) {
        const { head, from, to, frame } = unit;
        const patched = head.references.some(({ base }) => base < this.#bases.count);
        await this.#target.deliver(slicePlan(head, from, to).segments, raw, patched);
        this.#own?.arrived();
        if (frame === undefined) this.#place.buffers.giveBack(raw);
        else this.#stream.recycle(frame);
        this.#target.account(nameOf(unit), raw.length, unit.wireBytes);
        this.#free(unit);
        onPiece();
      }
    } finally {
      for (const free of this.#frees.values()) free();
    }
    const { position, totalBytes } = this.#target;
    if (position !== totalBytes) throw violation(`the contents end at ${position}`);
  }

  #free(unit: Unit): void {
    this.#frees.get(unit)?.();
    this.#frees.delete(unit);
  }

  async *#units(): AsyncGenerator<Unit, void, undefined> {
    for (;;) {
      const frame = await this.#stream.next();
      if (frame.type === TYPE.END) {
        decodeJson(frame, ContentsEndSchema);
        return;
      }
      if (frame.type !== TYPE.PACK) throw violation(`frame type ${frame.type} between packs`);
      const head = decodePack(frame.payload, this.#bases.scope);
      this.#stream.release(frame);
      this.#admit(head);
      this.#own?.admit(head);
      const wireBytes = frame.length + HEADER_BYTES;
      if (head.kind === "direct") yield* this.#direct(head, wireBytes);
      else yield await this.#solid(head, wireBytes);
    }
  }

  #admit({ start, rawBytes }: PackHead): void {
    const { totalBytes } = this.#target;
    if (start !== this.#start || rawBytes > totalBytes - start) {
      throw violation(`a pack at ${start} where ${this.#start} of ${totalBytes} was due`);
    }
    this.#start += rawBytes;
  }

  async #solid(head: PackHead, headBytes: number): Promise<Unit> {
    const { rawBytes, encodedBytes } = head;
    // Raw bytes and decoder's window, the references here and in the decoder, and what came.
    const needed = 2 * (rawBytes + referenceBytes(head)) + encodedBytes + SPARE_BYTES;
    const free = await this.#place.memory.take(needed, this.#signal);
    const { buffers } = this.#place;
    const encoded = buffers.lend(encodedBytes);
    const unit = { head, from: 0, to: rawBytes, encoded, wireBytes: headBytes + encodedBytes };
    this.#frees.set(unit, () => {
      buffers.giveBack(encoded);
      free();
    });
    for (let filled = 0; filled < encodedBytes;) {
      const frame = await this.#bytes(0);
      const { offset, rawBytes: length, data } = decodeBytes(frame);
      if (offset !== filled || data.length !== length || length > encodedBytes - filled) {
        throw violation(`${length} bytes at ${offset} where ${filled} was due in a pack`);
      }
      encoded.set(data, filled);
      filled += length;
      this.#stream.recycle(frame);
    }
    return unit;
  }

  async *#direct(head: PackHead, headBytes: number): AsyncGenerator<Unit, void, undefined> {
    for (let done = 0; done < head.rawBytes;) {
      const frame = await this.#bytes(FLAG_ZSTD);
      const { offset, rawBytes } = decodeBytes(frame);
      if (offset !== done || rawBytes > head.rawBytes - done) {
        throw violation(`${rawBytes} bytes at ${offset} where ${done} was due in a pack`);
      }
      done += rawBytes;
      const wireBytes = frame.length + HEADER_BYTES + (offset === 0 ? headBytes : 0);
      yield { head, from: offset, to: done, frame, wireBytes };
    }
  }

  async #bytes(flags: number): Promise<Frame> {
    const frame = await this.#stream.next();
    if (frame.type !== TYPE.BYTES) throw violation(`frame type ${frame.type} within a pack`);
    const unknown = frame.flags & ~flags & (FLAG_ZSTD | FLAG_DICTIONARY);
    if (unknown !== 0) throw violation(`a frame of a pack has flags ${frame.flags}`);
    return frame;
  }

  async #decode({ head, from, to, encoded, frame }: Unit): Promise<Buffer> {
    if (frame !== undefined) return decodeDirect(frame, to - from);
    const dictionary = await this.#dictionaryOf(head);
    const { buffers } = this.#place;
    const raw = await decodeWhole(head, encoded ?? new Uint8Array(0), { dictionary, buffers });
    if (dictionary !== undefined) buffers.giveBack(dictionary);
    if (raw !== undefined) return raw;
    throw packInvalid(this.#target.request.component, "a pack does not decompress as announced");
  }

  async #dictionaryOf(head: PackHead): Promise<Buffer | undefined> {
    if (head.references.length === 0) return undefined;
    await this.#own?.whole(head, this.#signal);
    const allocate = (bytes: number): Buffer => this.#place.buffers.lend(bytes);
    const dictionary = dictionaryOf(referenceBytes(head), allocate);
    let at = 1;
    for (const { base, content, offset, length } of head.references) {
      await this.#bases.readers[base]?.read(content, dictionary.subarray(at, at + length), offset);
      at += length;
    }
    return dictionary;
  }
}

async function decodeDirect(frame: Frame, rawBytes: number): Promise<Buffer> {
  const { data } = decodeBytes(frame);
  if ((frame.flags & FLAG_ZSTD) !== 0) return decompress(data, rawBytes);
  if (data.length !== rawBytes) throw violation(`${data.length} bytes in place of ${rawBytes}`);
  return data;
}

/** A difference is rarely longer than one byte for so many. */
const TYPICAL_SHARE = 8;

/** A solid pack, or one that is a difference; undefined when it is not what its head says. */
async function decodeWhole(
  { kind, rawBytes }: PackHead,
  encoded: Uint8Array,
  { dictionary, buffers }: { dictionary: Buffer | undefined; buffers: BufferPool },
): Promise<Buffer | undefined> {
  if (kind === "solid") return await decompressFrame(encoded, rawBytes, dictionary);
  const difference = await decompressUpTo(encoded, rawBytes, {
    chunkSize: Math.ceil(rawBytes / TYPICAL_SHARE),
  });
  const references = dictionary?.subarray(1);
  if (difference === undefined || references === undefined) return undefined;
  const raw = buffers.lend(rawBytes);
  return decodeDifference(difference, references, raw) ? raw : undefined;
}

function nameOf({ head, frame }: Unit): string {
  if (frame === undefined) return `${head.kind}-${head.level}`;
  return (frame.flags & FLAG_ZSTD) === 0 ? "plain" : `direct-${head.level}`;
}

async function receiveOpened(stream: IncomingStream, target: ContentsTarget): Promise<void> {
  const frame = await stream.next();
  if (frame.type !== TYPE.OPENED) throw violation(`frame type ${frame.type} before OPENED`);
  const { sizeBytes } = decodeJson(frame, ContentsOpenedSchema);
  if (sizeBytes === target.totalBytes) return;
  throw peerError("size-mismatch", `${sizeBytes} bytes of contents, not ${target.totalBytes}`, {
    subject: target.request.component,
  });
}

/**
 * Receives what the target lacks over one connection, up to END.
 *
 * @throws `transfer.pack-invalid`, `transfer.protocol-violation`, `transfer.size-mismatch`, the
 *   sender's error, the reason why the connection ended, what `take` and the store throw
 */
export async function receiveContents(
  receiver: Receiver,
  target: ContentsTarget,
  place: ContentsPlace,
  options: { readonly signal: AbortSignal; readonly onPiece: () => void },
): Promise<void> {
  const { component, bases } = target.request;
  target.begin();
  const open = { kind: "contents", component, bases, from: target.position } as const;
  const held = heldTuples(target.held);
  const stream = receiver.open({
    ...open,
    ...(held.length === 0 ? {} : { held }),
    ...(ownReader(target) === undefined ? {} : { own: true }),
  });
  stream.send(TYPE.WANT, target.want);
  const stop = new AbortController();
  const onStop = (): void => {
    stop.abort(violation("stopped"));
    stream.fail(stop.signal.reason);
  };
  const abort = (): void => stream.fail(options.signal.reason);
  options.signal.addEventListener("abort", abort, { once: true });
  const wireBytes = target.wireBytes;
  let opened: Bases | undefined;
  try {
    opened = await openBases(place, target);
    await receiveOpened(stream, target);
    const signal = AbortSignal.any([options.signal, stop.signal]);
    const contents = new ContentsReceiver(stream, target, opened, place, signal);
    const onPiece = (): void => {
      target.wireBytes = wireBytes + stream.wireBytes;
      options.onPiece();
    };
    await contents.run(onStop, onPiece);
    onPiece();
  } catch (cause) {
    receiver.done(stream, cause);
    // What is missing is then asked for anew.
    if (!(cause instanceof OtherPacks)) throw cause;
  } finally {
    target.wireBytes = wireBytes + stream.wireBytes;
    options.signal.removeEventListener("abort", abort);
    await opened?.close();
  }
}

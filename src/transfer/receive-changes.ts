import { BLOCK_BYTES } from "#block";
import type { BlobReader } from "#repository";
import {
  PAGE_BYTES,
  blockLength,
  dataBytesOf,
  decodeChanges,
  type BlockChange,
  type ChangesContext,
  type ChangesHead,
  type PageSegment,
} from "./changes.ts";
import { violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { decompressPatch, patchDictionary } from "./patch.ts";
import { FLAG_DICTIONARY, FLAG_ZSTD, RAW_BYTES_MAX } from "./protocol.ts";
import type { DeviceWrite } from "./redo-journal.ts";
import { lineageMismatch } from "./user-data-target.ts";

/** What changes are made of besides the bytes that come. */
export interface ChangesPlace {
  readonly context: ChangesContext;
  /** The images of the components, by ordinal. */
  readonly images: readonly BlobReader[];
  readOld(target: Uint8Array, offset: number): Promise<void>;
}

export interface DecodedChanges {
  readonly writes: readonly DeviceWrite[];
  readonly nextBlock: number;
}

/** Decodes the CHANGES frames of one stream, to be called for one after the other. */
export class ChangesDecoder {
  readonly #place: ChangesPlace;
  #nextBlock: number;
  /** The data of the frame before. */
  #before: Promise<Uint8Array> = Promise.resolve(new Uint8Array(0));

  constructor(place: ChangesPlace, from: number) {
    this.#place = place;
    this.#nextBlock = from;
  }

  /**
   * The writes that a frame stands for. Several calls may be in hand at a time.
   *
   * @throws `transfer.protocol-violation`; `transfer.lineage-mismatch` when a patch does not fit
   */
  async decode({ payload, flags }: Frame): Promise<DecodedChanges> {
    const head = decodeChanges(payload, this.#place.context, this.#nextBlock);
    this.#nextBlock = head.nextBlock;
    const olds = this.#oldBlocks(head);
    const raw = this.#data(head, flags, this.#before, olds);
    // A failure is met by whoever awaits it first; to the others it is not unhandled.
    raw.catch(() => undefined);
    this.#before = raw;
    const writes = await this.#compose(head, await raw, await olds);
    return { writes, nextBlock: head.nextBlock };
  }

  /** The old contents of the blocks that need them, by index. */
  async #oldBlocks({ changes }: ChangesHead): Promise<Map<number, Buffer>> {
    const { context } = this.#place;
    const olds = new Map<number, Buffer>();
    if (!context.lineage) return olds;
    for (const change of changes) {
      if (change.kind === "zero") continue;
      const old = Buffer.allocUnsafe(blockLength(change.index, context.sizeBytes));
      await this.#place.readOld(old, change.index * BLOCK_BYTES);
      olds.set(change.index, old);
    }
    return olds;
  }

  async #data(
    { changes, rawBytes, data }: ChangesHead,
    flags: number,
    before: Promise<Uint8Array>,
    olds: Promise<Map<number, Buffer>>,
  ): Promise<Uint8Array> {
    if ((flags & FLAG_ZSTD) === 0) {
      if (flags === 0 && data.length === rawBytes) return data;
      throw violation(`${data.length} bytes in place of ${rawBytes}`);
    }
    if (rawBytes === 0 || rawBytes > RAW_BYTES_MAX) throw violation("compressed data of no bytes");
    if ((flags & FLAG_DICTIONARY) === 0) return await decompressPatch(data, rawBytes, undefined);
    const { context } = this.#place;
    const known = await olds;
    const used = changes
      .filter((change) => dataBytesOf(change, context.sizeBytes) > 0)
      .flatMap(({ index }) => known.get(index) ?? []);
    const dictionary = patchDictionary(await before, used);
    if (dictionary === undefined) throw violation("a patch against nothing");
    try {
      return await decompressPatch(data, rawBytes, dictionary);
    } catch (cause) {
      throw context.lineage ? lineageMismatch("a patch does not fit", cause) : cause;
    }
  }

  async #compose(
    { changes }: ChangesHead,
    raw: Uint8Array,
    olds: ReadonlyMap<number, Buffer>,
  ): Promise<DeviceWrite[]> {
    const { sizeBytes } = this.#place.context;
    const writes: DeviceWrite[] = [];
    let at = 0;
    for (const change of changes) {
      const data = raw.subarray(at, at + dataBytesOf(change, sizeBytes));
      at += data.length;
      const offset = change.index * BLOCK_BYTES;
      if (change.kind === "zero") {
        const end = Math.min(offset + change.count * BLOCK_BYTES, sizeBytes);
        writes.push({ offset, zeroBytes: end - offset });
      } else if (change.kind === "whole") writes.push({ offset, bytes: data });
      else writes.push({ offset, bytes: await this.#pages(change, data, olds) });
    }
    return writes;
  }

  async #pages(
    { index, segments }: BlockChange & { readonly kind: "pages" },
    data: Uint8Array,
    olds: ReadonlyMap<number, Buffer>,
  ): Promise<Buffer> {
    const block = Buffer.alloc(BLOCK_BYTES);
    let at = 0;
    let taken = 0;
    for (const segment of segments) {
      const length = segment.count * PAGE_BYTES;
      const target = block.subarray(at, at + length);
      if (segment.kind === "data") {
        target.set(data.subarray(taken, taken + length));
        taken += length;
      } else if (segment.kind === "old")
        target.set(olds.get(index)?.subarray(at, at + length) ?? []);
      else if (segment.kind === "reference") await this.#reference(segment, target);
      at += length;
    }
    return block;
  }

  async #reference(
    { component, page }: PageSegment & { readonly kind: "reference" },
    target: Uint8Array,
  ): Promise<void> {
    await this.#place.images[component]?.read(target, page * PAGE_BYTES);
  }
}

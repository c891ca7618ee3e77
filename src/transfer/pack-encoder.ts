/** Makes the frames that carry a pack. */
import type { PackKey, PackPlan } from "#delta";
import type { ContentsReader, PackCache } from "#repository";
import { BufferPool, SPARE_BYTES_MAX } from "./buffers.ts";
import { compress } from "./compression.ts";
import type { ComponentContents } from "./contract.ts";
import type { DifferenceThreads } from "./difference-threads.ts";
import type { Pace } from "./pace.ts";
import type { Slots } from "./slots.ts";
import { packParameters, planWithin } from "./encoding.ts";
import { bytesPrefix } from "./messages.ts";
import { encodePack, type PackHead, type PackScope } from "./pack.ts";
import { packKey } from "./pack-key.ts";
import { halves, referenceBytes, slicePlan } from "./pack-plan.ts";
import { FLAG_ZSTD, PACK_WIRE_BYTES_MAX, RAW_BYTES_MAX, TYPE, type FrameType } from "./protocol.ts";
import { dictionaryOf } from "./solid.ts";
import {
  encodeWhole,
  withKind,
  withoutKind,
  type PackBytes,
  type WholePack,
} from "./whole-pack.ts";

/** Contents that are read at a time: they may be small and many. */
const READS_MAX = 16;
/** From so many pieces of so many bytes it is guessed whether a pack gets smaller. */
const SAMPLES = 8;
const SAMPLE_BYTES = 2 ** 15;
/** A frame may be longer than what is in it. */
const SPARE_BYTES = 2 ** 16;
/** A pack that would not get smaller than this share travels as it is. */
const WORTHWHILE_SHARE = 0.97;
/** A level at which two ways are compared. */
const QUICK_LEVEL = 9;

/** How a pack is to be made. */
export interface PackMethod {
  readonly level: number;
  /** Which the encoder may take. */
  readonly memoryBytes: number;
}

/** One frame, ready to be sent. */
export interface ReadyFrame {
  readonly type: FrameType;
  readonly flags: number;
  readonly parts: readonly Uint8Array[];
  /** Raw bytes of contents that have travelled with it. */
  readonly rawBytes: number;
  /** See `EncodingShares` of room core. */
  readonly encoding: string;
  /** Called when nothing reads the parts any more. */
  readonly onFree?: () => void;
}

interface Range {
  readonly content: number;
  readonly offset: number;
  readonly length: number;
}

async function readRanges(
  target: Uint8Array,
  ranges: readonly { readonly reader: ContentsReader; readonly range: Range }[],
): Promise<void> {
  let at = 0;
  for (let next = 0; next < ranges.length; next += READS_MAX) {
    const reads = ranges.slice(next, next + READS_MAX).map(({ reader, range }) => {
      const part = target.subarray(at, at + range.length);
      at += range.length;
      return reader.read(range.content, part, range.offset);
    });
    await Promise.all(reads);
  }
}

export interface PackEncoderOptions {
  readonly component: ComponentContents;
  /** What packs may refer to; the component itself is the last where they may refer to it. */
  readonly bases: readonly ComponentContents[];
  readonly packs: PackCache;
  /** Encoders at work, of the whole session. */
  readonly slots: Slots;
  /** Shared by the session; without it the encoder has one of its own. */
  readonly buffers?: BufferPool;
  /** Learns how long packs take. */
  readonly pace?: Pace;
  /** Threads that make differences; without them that is done on this one. */
  readonly threads?: DifferenceThreads;
}

/** Makes frames of packs of one component against some bases. */
export class PackEncoder {
  readonly #options: PackEncoderOptions;
  readonly #scope: PackScope;
  readonly #buffers: BufferPool;
  readonly #keeping = new Set<Promise<void>>();

  constructor(options: PackEncoderOptions) {
    this.#options = options;
    this.#buffers = options.buffers ?? new BufferPool(SPARE_BYTES_MAX);
    this.#scope = {
      component: options.component.recipe,
      bases: options.bases.map(({ recipe }) => recipe),
    };
  }

  /** The key under which a pack that is made so is cached. */
  keyOf(plan: PackPlan, { level, memoryBytes }: PackMethod): PackKey {
    const { component, bases } = this.#options;
    const within = planWithin(plan, memoryBytes);
    return packKey(within, packParameters(within, level, memoryBytes), component, bases);
  }

  /** The frame PACK that announces a direct pack. */
  directHead(plan: PackPlan, start: number, level: number | undefined): ReadyFrame {
    const head = { ...plan, references: [], kind: "direct", start, encodedBytes: 0 } as const;
    return this.#headFrame({ ...head, level: level ?? 0 });
  }

  /** Part of a direct pack, of at most 1 MiB, as one frame. */
  async directFrame(
    plan: PackPlan,
    range: { readonly from: number; readonly to: number },
    level: number | undefined,
  ): Promise<ReadyFrame> {
    const { from, to } = range;
    const raw = this.#buffers.lend(to - from);
    const onFree = (): void => this.#buffers.giveBack(raw);
    await this.#readRaw(slicePlan(plan, from, to), raw);
    const small = level === undefined ? undefined : await compress(raw, level);
    const common = { type: TYPE.BYTES, rawBytes: raw.length } as const;
    if (small === undefined) {
      const parts = [bytesPrefix(from, raw.length), raw];
      return { ...common, flags: 0, parts, encoding: "plain", onFree };
    }
    onFree();
    const parts = [bytesPrefix(from, raw.length), small];
    return { ...common, flags: FLAG_ZSTD, parts, encoding: `direct-${level}` };
  }

  /**
   * A solid pack, as a difference where that is smaller; as several where it is too large for one,
   * and direct where it does not get smaller. From the cache where it is there, else it is put there.
   */
  async solidFrames(whole: PackPlan, start: number, how: PackMethod): Promise<ReadyFrame[]> {
    const plan = planWithin(whole, how.memoryBytes);
    const encoded = await this.#encoded(plan, how);
    if (encoded === "direct") return this.#directFrames(plan, start);
    if (encoded !== "divide") return this.#wholeFrames(plan, start, how.level, encoded);
    const [first, second] = halves(plan);
    return [
      ...(await this.solidFrames(first, start, how)),
      ...(await this.solidFrames(second, start + first.rawBytes, how)),
    ];
  }

  /** An empty cached pack says that it has to be divided. */
  async #encoded(plan: PackPlan, how: PackMethod): Promise<WholePack | "divide" | "direct"> {
    const { packs, slots, pace } = this.#options;
    const cached = await packs.get(this.keyOf(plan, how));
    if (cached?.length === 0) return "divide";
    const known = cached === undefined ? undefined : withoutKind(cached);
    if (known !== undefined && known.data.length <= PACK_WIRE_BYTES_MAX) return known;
    const make = () => this.#make(plan, how);
    return slots.run(() => pace?.of(plan, how.level, make) ?? make());
  }

  async #make(plan: PackPlan, how: PackMethod) {
    const { level, memoryBytes } = how;
    const { threads } = this.#options;
    const buffers = this.#buffers;
    const raw = buffers.lend(plan.rawBytes);
    const bytes: PackBytes = { raw, dictionary: undefined };
    try {
      await this.#readRaw(plan, raw);
      if (plan.references.length === 0 && !(await isCompressible(raw))) return "direct";
      bytes.dictionary = await this.#dictionaryOf(plan);
      const bytesMax = Math.min(PACK_WIRE_BYTES_MAX, plan.rawBytes + SPARE_BYTES);
      const parameters = packParameters(plan, level, memoryBytes);
      const quick = packParameters(plan, QUICK_LEVEL, memoryBytes);
      const made = await encodeWhole(bytes, { level, parameters, quick, bytesMax, threads });
      if (made === undefined && plan.rawBytes < RAW_BYTES_MAX) return "direct";
      const kept = made === undefined ? new Uint8Array(0) : withKind(made);
      this.#keep(this.keyOf(plan, how), kept);
      return made ?? "divide";
    } finally {
      for (const buffer of [bytes.raw, bytes.dictionary]) {
        if (buffer !== undefined) buffers.giveBack(buffer);
      }
    }
  }

  /** Puts a pack into the cache while it travels. */
  #keep(key: PackKey, kept: Uint8Array): void {
    const keeping = this.#options.packs.put(key, kept).finally(() => this.#keeping.delete(keeping));
    this.#keeping.add(keeping);
  }

  /** Returns when everything that was made so far has been put into the cache. */
  async settled(): Promise<void> {
    await Promise.all(this.#keeping);
  }

  #wholeFrames(plan: PackPlan, start: number, level: number, pack: WholePack): ReadyFrame[] {
    const { kind, data: encoded } = pack;
    const encodedBytes = encoded.length;
    const frames = [this.#headFrame({ ...plan, kind, level, start, encodedBytes })];
    const share = (at: number): number => Math.floor((plan.rawBytes * at) / encodedBytes);
    for (let at = 0; at < encodedBytes; at += RAW_BYTES_MAX) {
      const data = encoded.subarray(at, at + RAW_BYTES_MAX);
      const rawBytes = share(at + data.length) - share(at);
      const parts = [bytesPrefix(at, data.length), data];
      frames.push({ type: TYPE.BYTES, flags: 0, parts, rawBytes, encoding: `${kind}-${level}` });
    }
    return frames;
  }

  async #directFrames(plan: PackPlan, start: number): Promise<ReadyFrame[]> {
    const frames = [this.directHead(plan, start, undefined)];
    for (let from = 0; from < plan.rawBytes; from += RAW_BYTES_MAX) {
      const to = Math.min(from + RAW_BYTES_MAX, plan.rawBytes);
      frames.push(await this.directFrame(plan, { from, to }, undefined));
    }
    return frames;
  }

  #headFrame(head: PackHead): ReadyFrame {
    const encoding = head.kind === "direct" ? "plain" : `${head.kind}-${head.level}`;
    const parts = [encodePack(head, this.#scope)];
    return { type: TYPE.PACK, flags: 0, parts, rawBytes: 0, encoding };
  }

  async #readRaw({ segments }: PackPlan, raw: Buffer): Promise<void> {
    const { reader } = this.#options.component;
    await readRanges(
      raw,
      segments.map((range) => ({ reader, range })),
    );
  }

  async #dictionaryOf(plan: PackPlan): Promise<Buffer | undefined> {
    const { bases } = this.#options;
    if (plan.references.length === 0) return undefined;
    const allocate = (bytes: number): Buffer => this.#buffers.lend(bytes);
    const dictionary = dictionaryOf(referenceBytes(plan), allocate);
    const ranges = plan.references.flatMap((range) => {
      const base = bases[range.base];
      return base === undefined ? [] : [{ reader: base.reader, range }];
    });
    await readRanges(dictionary.subarray(1), ranges);
    return dictionary;
  }
}

/** Guesses from some pieces of it. */
async function isCompressible(raw: Uint8Array): Promise<boolean> {
  const step = Math.max(SAMPLE_BYTES, Math.floor(raw.length / SAMPLES));
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < raw.length; at += step) pieces.push(raw.subarray(at, at + SAMPLE_BYTES));
  const sample = Buffer.concat(pieces);
  const small = await compress(sample, 1);
  return small !== undefined && small.length < sample.length * WORTHWHILE_SHARE;
}

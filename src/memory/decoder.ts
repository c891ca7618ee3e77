import { pipelined } from "#core";
import { pageHead } from "#hypervisor";
import type { ComponentImage } from "./contract.ts";
import { PAGE_BYTES, streamInvalid } from "./format.ts";
import { FrameReader, type Frame, type Preamble } from "./frames.ts";
import { Output } from "./output.ts";
import { PageStore } from "./page-store.ts";
import { applyPatch } from "./patch.ts";
import { RunReader, type Operation } from "./run-reader.ts";
import { unshrink } from "./zstd.ts";

/** Frames that are decompressed at a time. */
const DEPTH = 2;
/** Pages of an image that are read at once. */
const READ_PAGES = 64;

export interface MemoryDecoderOptions {
  /** The images that both sides number alike, those that may be referred to. */
  readonly images: readonly ComponentImage[];
  /** Most slots that are given to the source's store, 4096 bytes each. Default 2^16. */
  readonly slotsMax?: number;
}

type Of<Kind extends Operation["kind"]> = Extract<Operation, { readonly kind: Kind }>;

/** Turns operations into the hypervisor's stream. */
class Applier {
  readonly #images: readonly ComponentImage[];
  readonly #store: PageStore;
  readonly #output = new Output();

  constructor(images: readonly ComponentImage[], slots: number) {
    this.#images = images;
    this.#store = new PageStore(slots);
  }

  /** The pieces of the stream that an operation stands for. */
  async *apply(operation: Operation): AsyncGenerator<Buffer, void, undefined> {
    switch (operation.kind) {
      case "opaque":
        return yield* this.#output.put(operation.bytes);
      case "fill":
        return yield* this.#fill(operation);
      case "literal":
        return yield* this.#literal(operation);
      case "component":
        return yield* this.#component(operation);
      case "repeat":
        return yield* this.#repeat(operation);
      case "patch":
        return yield* this.#patch(operation);
    }
  }

  /** What is left of it. */
  rest(): Iterable<Buffer> {
    return this.#output.flush();
  }

  *#put(pages: Of<"fill">["pages"], index: number, page: Uint8Array): Generator<Buffer> {
    const name = pages.named && index === 0 ? pages.block : undefined;
    const kind = page.length === 1 ? "fill" : "page";
    yield* this.#output.put(pageHead(kind, (pages.page + index) * PAGE_BYTES, name));
    yield* this.#output.put(page);
  }

  *#fill({ pages, fill }: Of<"fill">): Generator<Buffer> {
    const byte = Uint8Array.of(fill);
    for (let index = 0; index < pages.count; index += 1) yield* this.#put(pages, index, byte);
  }

  *#literal({ pages, slot, bytes }: Of<"literal">): Generator<Buffer> {
    for (let index = 0; index < pages.count; index += 1) {
      const page = bytes.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);
      if (slot !== undefined) this.#keep(slot + index, page);
      yield* this.#put(pages, index, page);
    }
  }

  #keep(slot: number, page: Uint8Array): void {
    if (slot > this.#store.used || slot >= this.#store.slots) {
      throw streamInvalid(`slot ${slot} is not the next`);
    }
    this.#store.set(slot, page);
  }

  /** A view of a kept page. */
  #kept(slot: number): Buffer {
    if (slot >= this.#store.used) throw streamInvalid(`slot ${slot} has no page`);
    return this.#store.view(slot);
  }

  async *#component({ pages, component, imagePage }: Of<"component">): AsyncGenerator<Buffer> {
    const image = this.#images[component];
    if (image === undefined) throw streamInvalid(`there is no component ${component}`);
    const end = (imagePage + pages.count) * PAGE_BYTES;
    if (imagePage < 0 || end > image.sizeBytes) {
      throw streamInvalid(`component ${component} has no such page`);
    }
    for (let first = 0; first < pages.count; first += READ_PAGES) {
      const count = Math.min(READ_PAGES, pages.count - first);
      const bytes = Buffer.allocUnsafe(count * PAGE_BYTES);
      await image.read(bytes, (imagePage + first) * PAGE_BYTES);
      for (let index = 0; index < count; index += 1) {
        const page = bytes.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);
        yield* this.#put(pages, first + index, page);
      }
    }
  }

  *#repeat({ pages, slot }: Of<"repeat">): Generator<Buffer> {
    for (let index = 0; index < pages.count; index += 1) {
      yield* this.#put(pages, index, this.#kept(slot + index));
    }
  }

  *#patch({ pages, slot, patch }: Of<"patch">): Generator<Buffer> {
    const page = applyPatch(this.#kept(slot), patch);
    this.#store.set(slot, page);
    yield* this.#put(pages, 0, page);
  }
}

async function bodyOf({ packed, rawBytes, content }: Frame): Promise<Buffer> {
  return packed ? await unshrink(content, rawBytes) : content;
}

function checkPreamble(preamble: Preamble, { images, slotsMax }: MemoryDecoderOptions): void {
  if (preamble.components !== images.length) {
    throw streamInvalid(`it is for ${preamble.components} components, not ${images.length}`);
  }
  if (preamble.slots > (slotsMax ?? Infinity)) {
    throw streamInvalid(`it asks for ${preamble.slots} slots`);
  }
}

/**
 * The hypervisor's stream, bit by bit as it was encoded, in pieces of up to 256 KiB, the last of
 * each frame as soon as the frame is there. Memory is bounded: the store, two frames and a piece.
 *
 * @throws `memory.stream-invalid`, `memory.stream-cut` (peer), and as the source and the images
 */
export async function* decodeMemory(
  source: AsyncIterable<Uint8Array>,
  options: MemoryDecoderOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const reader = new FrameReader(source);
  try {
    const preamble = await reader.preamble();
    checkPreamble(preamble, options);
    const applier = new Applier(options.images, preamble.slots);
    const runs = new RunReader();
    for await (const body of pipelined(reader.frames(), DEPTH, bodyOf, () => void reader.close())) {
      for (const operation of runs.read(body)) yield* applier.apply(operation);
      yield* applier.rest();
    }
  } finally {
    await reader.close();
  }
}

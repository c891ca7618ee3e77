/** Layers as plain tar archives, verified, within bounds. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { TesseraError, type World } from "#core";
import { fileSource, readAll, type ContentSource } from "#image";
import { containerInvalid } from "#repository";
import { tooLarge } from "../errors.ts";
import { compressionOf } from "./files.ts";
import type { FoundLayer } from "./manifest.ts";

const CHUNK_BYTES = 2 ** 20;
/** Of all layers of an image together, decompressed. */
const IMAGE_BYTES_MAX = 64 * 2 ** 30;

export interface UnpackedLayer extends ContentSource {
  close(): Promise<void>;
}

export class Unpacker {
  readonly #world: World;
  readonly #directory: string;
  readonly #signal: AbortSignal;
  #leftBytes: number | undefined;

  constructor(world: World, directory: string, signal: AbortSignal) {
    this.#world = world;
    this.#directory = directory;
    this.#signal = signal;
  }

  /**
   * The layer's tar: its own bytes, or a file in the directory.
   *
   * @throws `repository.container-invalid` (corrupt), `import.too-large` (misuse)
   */
  async unpack(layer: FoundLayer, number: number): Promise<UnpackedLayer> {
    const { content } = layer;
    const head = await readAll(headOf(content), 4);
    const compression = compressionOf(head);
    const path = join(this.#directory, `layer-${number}.tar`);
    const packed = createHash("sha256");
    const plain = createHash("sha256");
    const chunks = this.#chunks(content, packed);
    if (compression === undefined) {
      for await (const chunk of chunks) plain.update(chunk);
    } else {
      const stream = compression === "gzip" ? createGunzip() : createZstdDecompress();
      await this.#write(path, chunks, stream, plain);
    }
    const [digest, diffId] = [packed, plain].map((sum) => `sha256:${sum.digest("hex")}`);
    if (layer.digest !== undefined && digest !== layer.digest) throw wrong(layer.digest);
    if (diffId !== layer.diffId) throw wrong(layer.diffId);
    if (compression === undefined) return { ...slice(content), close: () => Promise.resolve() };
    return await fileSource(this.#world, path);
  }

  async *#chunks(content: ContentSource, sum: ReturnType<typeof createHash>) {
    for (let at = 0; at < content.sizeBytes; at += CHUNK_BYTES) {
      this.#signal.throwIfAborted();
      const chunk = new Uint8Array(Math.min(CHUNK_BYTES, content.sizeBytes - at));
      await content.read(chunk, at);
      sum.update(chunk);
      yield chunk;
    }
  }

  async #write(
    path: string,
    chunks: AsyncIterable<Uint8Array>,
    stream: ReturnType<typeof createGunzip> | ReturnType<typeof createZstdDecompress>,
    sum: ReturnType<typeof createHash>,
  ): Promise<void> {
    const file = await this.#world.files.open(path, "exclusive", 0o600);
    let position = 0;
    try {
      await pipeline(Readable.from(chunks), stream, async (pieces: AsyncIterable<Uint8Array>) => {
        for await (const piece of pieces) {
          await this.#take(piece.length);
          sum.update(piece);
          await file.write(piece, position);
          position += piece.length;
        }
      });
    } catch (cause) {
      this.#signal.throwIfAborted();
      if (cause instanceof TesseraError) throw cause;
      throw containerInvalid("a layer cannot be decompressed", cause);
    } finally {
      await file.close();
    }
  }

  /** A layer that unfolds without end leaves half of the free space to others. */
  async #take(bytes: number): Promise<void> {
    this.#leftBytes ??= Math.min(
      IMAGE_BYTES_MAX,
      (await this.#world.files.freeBytes(this.#directory)) / 2,
    );
    this.#leftBytes -= bytes;
    if (this.#leftBytes < 0) {
      throw tooLarge("the container image", "its layers unfold to more than there is place for");
    }
  }
}

function headOf(content: ContentSource): ContentSource {
  const sizeBytes = Math.min(4, content.sizeBytes);
  return { sizeBytes, read: (target, position) => content.read(target, position) };
}

function slice(content: ContentSource): ContentSource {
  return {
    sizeBytes: content.sizeBytes,
    read: (target, position) => content.read(target, position),
  };
}

function wrong(digest: string): TesseraError {
  return containerInvalid(`a layer is not what its digest says (${digest})`);
}

/** An OVA: descriptor, manifest and disk in one tar archive, in the order of the specification. */
import { createHash, hash } from "node:crypto";
import type { World } from "#core";
import { fileSource, type ContentSource } from "#image";
import { encodeOvf, type OvfMachine } from "./ovf.ts";
import { TAR_END, tarHeader, tarPadding } from "./tar.ts";

const CHUNK_BYTES = 2 ** 20;

async function* chunksOf(content: ContentSource): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let at = 0; at < content.sizeBytes; at += CHUNK_BYTES) {
    const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, content.sizeBytes - at));
    await content.read(chunk, at);
    yield chunk;
  }
}

async function digestOf(content: ContentSource): Promise<string> {
  const sum = createHash("sha256");
  for await (const chunk of chunksOf(content)) sum.update(chunk);
  return sum.digest("hex");
}

/** `SHA256(NAME)= DIGEST`, one line for each file but itself. */
export function encodeManifest(digests: readonly (readonly [name: string, hex: string])[]): string {
  return digests.map(([name, hex]) => `SHA256(${name})= ${hex}\n`).join("");
}

class Archive {
  readonly #write: (bytes: Uint8Array) => Promise<void>;

  constructor(write: (bytes: Uint8Array) => Promise<void>) {
    this.#write = write;
  }

  async text(name: string, content: string): Promise<void> {
    const bytes = Buffer.from(content);
    await this.#write(tarHeader(name, bytes.length));
    await this.#write(bytes);
    await this.#write(tarPadding(bytes.length));
  }

  async content(name: string, content: ContentSource): Promise<void> {
    await this.#write(tarHeader(name, content.sizeBytes));
    for await (const chunk of chunksOf(content)) await this.#write(chunk);
    await this.#write(tarPadding(content.sizeBytes));
  }

  async end(): Promise<void> {
    await this.#write(TAR_END);
  }
}

/**
 * Writes the archive at `target`, where nothing is.
 *
 * @param disk a streamOptimized VMDK
 */
export async function writeOva(
  world: World,
  disk: string,
  target: string,
  machine: Omit<OvfMachine, "file">,
  signal: AbortSignal,
): Promise<void> {
  const content = await fileSource(world, disk);
  try {
    const diskName = `${machine.name}-disk1.vmdk`;
    const file = { name: diskName, sizeBytes: content.sizeBytes };
    const descriptor = encodeOvf({ ...machine, file });
    const descriptorName = `${machine.name}.ovf`;
    const digests = [
      [descriptorName, hash("sha256", descriptor, "hex")],
      [diskName, await digestOf(content)],
    ] as const;
    const out = await world.files.open(target, "exclusive", 0o600);
    try {
      let position = 0;
      const archive = new Archive(async (bytes) => {
        signal.throwIfAborted();
        await out.write(bytes, position);
        position += bytes.length;
      });
      await archive.text(descriptorName, descriptor);
      await archive.text(`${machine.name}.mf`, encodeManifest(digests));
      await archive.content(diskName, content);
      await archive.end();
    } finally {
      await out.close();
    }
  } finally {
    await content.close();
  }
}

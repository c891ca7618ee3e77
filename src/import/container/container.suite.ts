/** Container images made for tests: layouts on disk and archives as Docker writes them. */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { pack } from "tar-stream";

export type MadeLayer =
  | {
      readonly files: Readonly<Record<string, string>>;
      readonly compression: "none" | "gzip" | "zstd";
    }
  | { readonly raw: Uint8Array };

export interface MadeImage {
  readonly layers: readonly MadeLayer[];
  /** Its name in the index. */
  readonly tag?: string | undefined;
  readonly architecture?: string;
  readonly os?: string;
  /** Hex digits in place of the first right ones. */
  readonly diffIds?: readonly string[];
  /** In place of the right one, of the first layer. */
  readonly layerType?: string;
  /** A byte of the first layer is wrong. */
  readonly damage?: boolean;
}

export async function directoryFor(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-container-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export async function tarOf(files: Readonly<Record<string, string | Uint8Array>>): Promise<Buffer> {
  const archive = pack();
  for (const [name, text] of Object.entries(files)) {
    archive.entry({ name, mtime: new Date(1_000_000) }, Buffer.from(text));
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const INDEX_TYPE = "application/vnd.oci.image.index.v1+json";

const hexOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

interface Packed {
  readonly bytes: Buffer;
  readonly diffId: string;
  readonly mediaType: string;
}

async function packed(layer: MadeLayer): Promise<Packed> {
  const type = "application/vnd.oci.image.layer.v1.tar";
  const tar = "raw" in layer ? Buffer.from(layer.raw) : await tarOf(layer.files);
  const compression = "raw" in layer ? "none" : layer.compression;
  const diffId = hexOf(tar);
  if (compression === "none") return { bytes: tar, diffId, mediaType: type };
  const bytes = compression === "gzip" ? gzipSync(tar) : zstdCompressSync(tar);
  return { bytes, diffId, mediaType: `${type}+${compression}` };
}

async function partsOf(image: MadeImage) {
  const layers = await Promise.all(image.layers.map(packed));
  const diffIds = layers.map(({ diffId }, index) => `sha256:${image.diffIds?.[index] ?? diffId}`);
  const { architecture = "amd64", os = "linux" } = image;
  const config = Buffer.from(
    JSON.stringify({ architecture, os, rootfs: { type: "layers", diff_ids: diffIds } }),
  );
  return { layers, config, platform: { architecture, os } };
}

/** Writes a layout with these images, or with one index of them; gives its directory. */
export async function ociLayout(
  directory: string,
  images: readonly MadeImage[],
  indexTag?: string,
): Promise<string> {
  const blobs = join(directory, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  const put = async (bytes: Buffer, stored = bytes) => {
    await writeFile(join(blobs, hexOf(bytes)), stored);
    return { digest: `sha256:${hexOf(bytes)}`, size: bytes.length };
  };
  const manifests = [];
  for (const image of images) {
    const { layers, config, platform } = await partsOf(image);
    const described = [];
    for (const [index, { bytes, mediaType }] of layers.entries()) {
      const first = index === 0;
      const wrong = Buffer.from(bytes).fill(1, bytes.length - 9, bytes.length - 8);
      const blob = await put(bytes, first && image.damage === true ? wrong : bytes);
      described.push({ mediaType: (first ? image.layerType : undefined) ?? mediaType, ...blob });
    }
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const configType = "application/vnd.oci.image.config.v1+json";
    const manifest = {
      schemaVersion: 2,
      mediaType,
      config: { mediaType: configType, ...(await put(config)) },
      layers: described,
    };
    const name = image.tag === undefined ? {} : { "org.opencontainers.image.ref.name": image.tag };
    const blob = await put(Buffer.from(JSON.stringify(manifest)));
    manifests.push({ mediaType, ...blob, platform, annotations: name });
  }
  const all = { schemaVersion: 2, mediaType: INDEX_TYPE, manifests };
  const one = async () => ({
    mediaType: INDEX_TYPE,
    ...(await put(Buffer.from(JSON.stringify(all)))),
    annotations: { "org.opencontainers.image.ref.name": indexTag },
  });
  const index = indexTag === undefined ? all : { ...all, manifests: [await one()] };
  await writeFile(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(directory, "index.json"), JSON.stringify(index));
  return directory;
}

/** As `docker save` writes it. */
export async function dockerArchive(image: MadeImage): Promise<Buffer> {
  const { layers, config } = await partsOf(image);
  const names = layers.map((_, index) => `${index}/layer.tar`);
  const manifest = [{ Config: "config.json", RepoTags: [image.tag], Layers: names }];
  return await tarOf({
    "manifest.json": JSON.stringify(manifest),
    "config.json": config,
    ...Object.fromEntries(layers.map(({ bytes }, index) => [names[index], bytes])),
  });
}

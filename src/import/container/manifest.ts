/** Which image of a layout or an archive, what its layers are, and how it is called. */
import { hash } from "node:crypto";
import * as z from "zod";
import { hexOf, type BlobReference, type Digest } from "#core";
import { readAll, type ContentSource } from "#image";
import {
  chooseManifest,
  containerInvalid,
  decodeContainerConfig,
  decodeContainerManifest,
  IMAGE_JSON_BYTES_MAX,
  type Platform,
} from "#repository";
import { damaged, unsupported } from "../errors.ts";
import type { ContainerRequest } from "./contract.ts";
import type { ImageFiles } from "./files.ts";

/** An index that leads to an index that leads on is no image. */
const INDEXES_MAX = 4;

export interface FoundLayer {
  readonly content: ContentSource;
  /** Of the bytes as they are there, perhaps compressed; absent where nothing says it. */
  readonly digest?: Digest;
  /** Of the tar. */
  readonly diffId: Digest;
}

export interface FoundImage {
  readonly layers: readonly FoundLayer[];
  readonly platform: Platform;
  /** As `NAME:TAG` or a tag; absent where nothing says it. */
  readonly name?: string;
  readonly digest: Digest;
  readonly labels: Readonly<Record<string, string>>;
}

/** @throws `repository.container-…`, `import.image-damaged` (corrupt) */
export async function findImage(files: ImageFiles, request: ContainerRequest): Promise<FoundImage> {
  const found =
    files.kind === "oci" ? await inLayout(files, request) : await inDocker(files, request);
  const { architecture } = request.platform;
  if (found.platform.architecture === architecture) return found;
  const feature = `an image for ${found.platform.architecture} where one for ${architecture} is wanted`;
  throw unsupported(request.path, feature, "name its --platform, or another image");
}

async function inLayout(files: ImageFiles, request: ContainerRequest): Promise<FoundImage> {
  const { platform, tag } = request;
  let content = await jsonAt(files, "index.json");
  let name: string | undefined;
  for (let depth = 0; depth < INDEXES_MAX; depth += 1) {
    const outermost = depth === 0 && tag !== undefined;
    const chosen = chooseManifest(content, { platform, ...(outermost ? { tag } : {}) });
    name ??= chosen.name;
    content = await jsonBlob(files, chosen);
    if (chosen.isIndex) continue;
    const { config, layers, labels } = decodeContainerManifest(content);
    const { diffIds, ...about } = decodeContainerConfig(await jsonBlob(files, config));
    if (diffIds.length !== layers.length)
      throw containerInvalid("its layers are not those of its config");
    const opened = layers.map(async (blob, index): Promise<FoundLayer> => ({
      content: await sized(files, blob),
      digest: blob.digest,
      diffId: diffIds[index] ?? blob.digest,
    }));
    return {
      layers: await Promise.all(opened),
      platform: about.platform,
      digest: chosen.digest,
      labels: { ...about.labels, ...labels },
      ...(name === undefined ? {} : { name }),
    };
  }
  throw containerInvalid("its indexes lead to no image");
}

const dockerShape = z
  .array(
    z.looseObject({
      Config: z.string().max(4096),
      RepoTags: z.array(z.string().max(4096)).nullish(),
      Layers: z.array(z.string().max(4096)).min(1).max(128),
    }),
  )
  .min(1)
  .max(1000);

async function inDocker(files: ImageFiles, { tag, path }: ContainerRequest): Promise<FoundImage> {
  const parsed = dockerShape.safeParse(parseJson(await jsonAt(files, "manifest.json")));
  if (!parsed.success) throw damaged(path, "its manifest.json is none");
  const named = parsed.data.filter(
    ({ RepoTags }) =>
      tag === undefined || RepoTags?.some((name) => name === tag || name.endsWith(`:${tag}`)),
  );
  const [image] = named;
  if (image === undefined || named.length > 1) {
    const all = parsed.data.flatMap(({ RepoTags }) => RepoTags ?? ["an image without name"]);
    const feature = `choosing among ${all.slice(0, 8).join(", ")}`;
    throw unsupported(path, feature, "name one of them with --tag");
  }
  const config = await jsonAt(files, image.Config);
  const { diffIds, platform, labels } = decodeContainerConfig(config);
  if (diffIds.length !== image.Layers.length) {
    throw containerInvalid("its layers are not those of its config");
  }
  const opened = image.Layers.map(async (layer, index): Promise<FoundLayer> => ({
    content: await files.open(layer),
    diffId: diffIds[index] ?? diffIdMissing(),
  }));
  const [name] = image.RepoTags ?? [];
  return {
    layers: await Promise.all(opened),
    platform,
    digest: `sha256:${hash("sha256", config, "hex")}`,
    labels,
    ...(name === undefined ? {} : { name }),
  };
}

function diffIdMissing(): never {
  throw containerInvalid("a layer has no digest");
}

async function jsonAt(files: ImageFiles, path: string): Promise<Uint8Array> {
  const source = await files.open(path);
  if (source.sizeBytes > IMAGE_JSON_BYTES_MAX) throw containerInvalid(`${path} is too long`);
  return await readAll(source, IMAGE_JSON_BYTES_MAX);
}

async function jsonBlob(files: ImageFiles, blob: BlobReference): Promise<Uint8Array> {
  if (blob.sizeBytes > IMAGE_JSON_BYTES_MAX) throw containerInvalid(`${blob.digest} is too long`);
  const content = await readAll(await sized(files, blob), IMAGE_JSON_BYTES_MAX);
  if (`sha256:${hash("sha256", content, "hex")}` === blob.digest) return content;
  throw containerInvalid(`${blob.digest} is not what its digest says`);
}

async function sized(files: ImageFiles, blob: BlobReference): Promise<ContentSource> {
  const source = await files.open(`blobs/sha256/${hexOf(blob.digest)}`);
  if (source.sizeBytes === blob.sizeBytes) return source;
  throw containerInvalid(`${blob.digest} has ${source.sizeBytes} bytes of ${blob.sizeBytes}`);
}

function parseJson(content: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(content).toString("utf8"));
  } catch {
    return undefined;
  }
}

/** Container images: the JSON of the OCI image specification 1.1 and of Docker's, decoded. */
import * as z from "zod";
import { isDigest, TesseraError, type BlobReference, type Digest } from "#core";
import { INDEX_TYPE, MANIFEST_TYPE } from "./layout.ts";

export const IMAGE_JSON_BYTES_MAX = 4 * 2 ** 20;
const LAYERS_MAX = 128;
const MANIFESTS_MAX = 1000;

const DOCKER = "application/vnd.docker.distribution.manifest";
const INDEX_TYPES: readonly string[] = [INDEX_TYPE, `${DOCKER}.list.v2+json`];
const MANIFEST_TYPES: readonly string[] = [MANIFEST_TYPE, `${DOCKER}.v2+json`];

/** What to ask a registry for. */
export const CONTAINER_TYPES: readonly string[] = [...MANIFEST_TYPES, ...INDEX_TYPES];

const CONFIG_TYPES: readonly string[] = [
  "application/vnd.oci.image.config.v1+json",
  "application/vnd.docker.container.image.v1+json",
];
const LAYER_TYPES: readonly string[] = [
  "application/vnd.oci.image.layer.v1.tar",
  "application/vnd.oci.image.layer.v1.tar+gzip",
  "application/vnd.oci.image.layer.v1.tar+zstd",
  "application/vnd.docker.image.rootfs.diff.tar",
  "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

const REFERENCE = "org.opencontainers.image.ref.name";

const text = z.string().max(4096);
const digest = z.string().refine(isDigest, "is no sha256 digest") as unknown as z.ZodType<Digest>;
const platform = z.looseObject({
  architecture: text,
  os: text,
  variant: text.exactOptional(),
});
const descriptor = z.looseObject({
  mediaType: text,
  digest,
  size: z.int().min(0),
  platform: platform.exactOptional(),
  annotations: z.record(text, text).exactOptional(),
});
const indexShape = z.looseObject({
  schemaVersion: z.literal(2),
  manifests: z.array(descriptor).max(MANIFESTS_MAX),
});
const manifestShape = z.looseObject({
  schemaVersion: z.literal(2),
  config: descriptor,
  layers: z.array(descriptor).min(1).max(LAYERS_MAX),
  annotations: z.record(text, text).exactOptional(),
});
const configShape = z.looseObject({
  architecture: text,
  os: text,
  variant: text.exactOptional(),
  rootfs: z.looseObject({
    type: z.literal("layers"),
    diff_ids: z.array(digest).min(1).max(LAYERS_MAX),
  }),
  config: z.looseObject({ Labels: z.record(text, text).nullish() }).nullish(),
});

/** `linux/amd64`, as containers name it. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

export interface ContainerManifest {
  readonly config: BlobReference;
  readonly layers: readonly BlobReference[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface ContainerConfig {
  readonly platform: Platform;
  /** sha256 of each layer's tar, not compressed. */
  readonly diffIds: readonly Digest[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface NamedManifest extends BlobReference {
  /** An index leads on to another choice. */
  readonly isIndex: boolean;
  /** Its name in the index, where it has one. */
  readonly name?: string;
}

export function isIndexType(mediaType: string): boolean {
  return INDEX_TYPES.includes(mediaType);
}

/**
 * The manifest, or the index, of an index for a platform, and of a name where one is given.
 *
 * @throws `repository.container-invalid` (corrupt), `repository.container-unknown` (misuse)
 */
export function chooseManifest(
  content: Uint8Array,
  wanted: { readonly platform: Platform; readonly tag?: string },
): NamedManifest {
  const { manifests } = decode(indexShape, content, "index");
  const known = manifests.filter(({ mediaType }) => CONTAINER_TYPES.includes(mediaType));
  const named = known.filter(({ annotations }) => {
    const name = annotations?.[REFERENCE];
    return wanted.tag === undefined || name === wanted.tag || name?.endsWith(`:${wanted.tag}`);
  });
  const fitting = named.filter(
    (one) => one.platform === undefined || fits(one.platform, wanted.platform),
  );
  const [first] = fitting;
  const digests = new Set(fitting.map((one) => one.digest));
  if (first === undefined || digests.size > 1) throw unclear(known, wanted.platform, digests.size);
  const name = first.annotations?.[REFERENCE];
  return {
    digest: first.digest,
    sizeBytes: first.size,
    isIndex: isIndexType(first.mediaType),
    ...(name === undefined ? {} : { name }),
  };
}

function fits(offered: Platform, { os, architecture, variant }: Platform): boolean {
  if (offered.os !== os || offered.architecture !== architecture) return false;
  return variant === undefined || offered.variant === undefined || offered.variant === variant;
}

/** @throws `repository.container-invalid` (corrupt), `repository.container-unsupported` (misuse) */
export function decodeContainerManifest(content: Uint8Array): ContainerManifest {
  const { config, layers, annotations = {} } = decode(manifestShape, content, "manifest");
  const wrong = [
    ...(CONFIG_TYPES.includes(config.mediaType) ? [] : [config.mediaType]),
    ...layers.flatMap(({ mediaType }) => (LAYER_TYPES.includes(mediaType) ? [] : [mediaType])),
  ];
  if (wrong.length > 0) throw unsupported(`a part of the type ${wrong[0]?.slice(0, 128)}`);
  return { config: blobOf(config), layers: layers.map(blobOf), labels: annotations };
}

function blobOf({ digest: id, size }: z.output<typeof descriptor>): BlobReference {
  return { digest: id, sizeBytes: size };
}

/** @throws `repository.container-invalid` (corrupt), `repository.container-unsupported` (misuse) */
export function decodeContainerConfig(content: Uint8Array): ContainerConfig {
  const { os, architecture, variant, rootfs, config } = decode(configShape, content, "config");
  if (os !== "linux") throw unsupported(`the system ${os.slice(0, 64)}`);
  return {
    platform: { os, architecture, ...(variant === undefined ? {} : { variant }) },
    diffIds: rootfs.diff_ids,
    labels: config?.Labels ?? {},
  };
}

function decode<T>(schema: z.ZodType<T>, content: Uint8Array, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content));
  } catch (cause) {
    throw containerInvalid(`its ${what} is not JSON`, cause);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw containerInvalid(`its ${what}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`);
}

export function containerInvalid(problem: string, cause?: unknown): TesseraError {
  const message = `the container image is damaged: ${problem}`;
  return new TesseraError("corrupt", "repository.container-invalid", message, {
    remedy: "copy it again from where it came",
    cause,
  });
}

function unsupported(what: string): TesseraError {
  const message = `the container image has ${what}, which is not taken`;
  return new TesseraError("misuse", "repository.container-unsupported", message, {
    remedy: "give an image of Linux whose layers are tar archives, plain or with gzip or zstd",
  });
}

function unclear(
  known: readonly z.output<typeof descriptor>[],
  { os, architecture }: Platform,
  count: number,
): TesseraError {
  const all = known.map(({ annotations, platform: of }) => {
    const where = of === undefined ? "" : ` for ${of.os}/${of.architecture}`;
    return `${annotations?.[REFERENCE] ?? "an image"}${where}`;
  });
  const what = count > 1 ? `${count} images` : "no image";
  const message = `there is ${what} for ${os}/${architecture} among: ${all.slice(0, 8).join(", ") || "none"}`;
  return new TesseraError("misuse", "repository.container-unknown", message, {
    remedy: "name one with --tag, or another --platform",
  });
}

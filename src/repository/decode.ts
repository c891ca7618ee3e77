/** Decoding of all JSON that comes from disk or from a peer: size, syntax, then shape. */
import * as z from "zod";
import {
  isDigest,
  TesseraError,
  type BlobReference,
  type ComponentDescription,
  type Digest,
  type Fragment,
} from "#core";
import { CONFIG_TYPE, FRAGMENTS_TYPE, IMAGE_TYPE, MANIFEST_TYPE } from "./layout.ts";

const digest = z.string().refine(isDigest) as unknown as z.ZodType<Digest>;
const bytes = z.int().nonnegative();
const line = (max: number) =>
  z.string().min(1).max(max).refine(isLine, { error: "holds a control character" });

function isLine(text: string): boolean {
  return Array.from(text).every((character) => character >= " " && character !== "\u007f");
}

/** An absolute path in canonical form: no empty, `.` or `..` segment, no NUL. */
const guestPath = z
  .string()
  .max(4096)
  .refine((path) => path.startsWith("/") && path.slice(1).split("/").every(isSegment), {
    error: "not a canonical absolute path",
  });

function isSegment(segment: string): boolean {
  return segment !== "" && segment !== "." && segment !== ".." && !segment.includes("\0");
}

const constraintBase = z.object({
  type: z.enum(["soname", "package", "user", "os"]),
  name: line(512),
  version: line(512).exactOptional(),
  relation: z.enum(["<<", "<=", "=", ">=", ">>"]).exactOptional(),
});
const constraint = constraintBase.extend({
  alternatives: z.array(constraintBase).max(256).exactOptional(),
});

const descriptionSchema = z.object({
  kind: z.enum(["kernel", "os", "program"]),
  name: z.string().regex(/^[a-z0-9][a-z0-9.+_-]{0,127}$/),
  version: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,127}$/),
  architecture: z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/),
  packages: z
    .array(z.object({ name: line(256), version: line(256), architecture: line(64) }))
    .max(50_000),
  provides: z.array(constraint).max(200_000),
  requires: z.array(constraint).max(200_000),
  instancePaths: z.array(guestPath).max(10_000),
  recipe: digest.exactOptional(),
  kernelRelease: line(256).exactOptional(),
});

const fragmentsSchema = z
  .array(z.object({ path: guestPath, text: z.string() }))
  .max(100_000)
  .refine((list) => new Set(list.map(({ path }) => path)).size === list.length, {
    error: "a path appears twice",
  });

/** OCI content descriptor; other members are kept. */
const descriptor = z.looseObject({ mediaType: z.string(), digest, size: bytes });

const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.literal(MANIFEST_TYPE),
  config: descriptor.extend({ mediaType: z.literal(CONFIG_TYPE) }),
  layers: z.array(descriptor).length(2),
});

const entrySchema = descriptor.extend({
  annotations: z.record(z.string(), z.string()).exactOptional(),
});
const indexSchema = z.looseObject({
  schemaVersion: z.literal(2),
  manifests: z.array(entrySchema).max(100_000),
});

/** Any OCI manifest or index, for the blobs that it names. */
const anySchema = z.looseObject({
  config: descriptor.exactOptional(),
  layers: z.array(descriptor).exactOptional(),
  manifests: z.array(descriptor).exactOptional(),
});

export type IndexEntry = z.infer<typeof entrySchema>;
export type Index = z.infer<typeof indexSchema>;

/** The blobs of a component, as its manifest names them. */
export interface ComponentBlobs {
  readonly config: BlobReference;
  readonly image: BlobReference;
  readonly fragments: BlobReference;
}

/** Parses and checks; the error carries the first fault found and where it is. */
function decode<T>(schema: z.ZodType<T>, content: Uint8Array, what: string): T {
  return checked(schema, parse(content, what), what);
}

function parse(content: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content));
  } catch (cause) {
    throw invalid(what, "not JSON in UTF-8", cause);
  }
}

function checked<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw invalid(what, `${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`, result.error);
}

export function invalid(what: string, reason: string, cause?: unknown): TesseraError {
  const message = `${what} is invalid: ${reason}`;
  return new TesseraError("corrupt", "repository.json-invalid", message, { subject: what, cause });
}

/** @throws `repository.json-invalid` (corrupt), as all of these do */
export function decodeDescription(content: Uint8Array): ComponentDescription {
  return decode(descriptionSchema, content, "component description");
}

export function checkDescription(description: ComponentDescription): ComponentDescription {
  return checked(descriptionSchema, description, "component description");
}

export function decodeFragments(content: Uint8Array): Fragment[] {
  return decode(fragmentsSchema, content, "component fragments");
}

export function checkFragments(fragments: readonly Fragment[]): Fragment[] {
  return checked(fragmentsSchema, fragments, "component fragments");
}

export function decodeManifest(content: Uint8Array): ComponentBlobs {
  const { config, layers } = decode(manifestSchema, content, "component manifest");
  const layer = (mediaType: string): BlobReference => {
    const found = layers.find((candidate) => candidate.mediaType === mediaType);
    if (found === undefined) throw invalid("component manifest", `no layer ${mediaType}`, layers);
    return { digest: found.digest, sizeBytes: found.size };
  };
  return {
    config: { digest: config.digest, sizeBytes: config.size },
    image: layer(IMAGE_TYPE),
    fragments: layer(FRAGMENTS_TYPE),
  };
}

export function decodeIndex(content: Uint8Array): Index {
  return decode(indexSchema, content, "index.json");
}

/** What an OCI manifest or index of any kind names; nested ones are told apart from leaves. */
export interface Names {
  readonly configType: string | undefined;
  readonly leaves: readonly Digest[];
  readonly nested: readonly Digest[];
}

export function decodeNames(content: Uint8Array): Names {
  const { config, layers, manifests } = decode(anySchema, content, "OCI manifest");
  const leaves = [...(config === undefined ? [] : [config]), ...(layers ?? [])];
  return {
    configType: config?.mediaType,
    leaves: leaves.map((leaf) => leaf.digest),
    nested: (manifests ?? []).map((manifest) => manifest.digest),
  };
}

const markerSchema = z.looseObject({ imageLayoutVersion: z.literal("1.0.0") });
const pinSchema = z.object({ owner: z.string(), ids: z.array(digest) });
const identitySchema = z.object({ pid: z.int(), startTicks: z.int(), bootId: z.string() });
const leaseSchema = z.object({ holder: identitySchema, blobs: z.record(digest, z.number()) });
const checkedSchema = z.object({
  sizeBytes: bytes,
  modified_ms: z.number(),
  changed_ms: z.number(),
  inode: z.int(),
});
const partSchema = z.object({
  sizeBytes: bytes,
  checkpointBytes: bytes,
  checkpointDigest: digest,
  bootId: z.string(),
});

const assemblySchema = z.object({ sizeBytes: bytes, inode: z.int(), stateDigest: digest });

export type Pin = z.infer<typeof pinSchema>;
export type Lease = z.infer<typeof leaseSchema>;
export type CheckedRecord = z.infer<typeof checkedSchema>;
export type PartState = z.infer<typeof partSchema>;

export const decodeMarker = (content: Uint8Array) => decode(markerSchema, content, "oci-layout");
export const decodePin = (content: Uint8Array) => decode(pinSchema, content, "pins");
export const decodeIdentity = (content: Uint8Array) => decode(identitySchema, content, "holder");
export const decodeLease = (content: Uint8Array) => decode(leaseSchema, content, "lease");
export const decodeChecked = (content: Uint8Array) => decode(checkedSchema, content, "checked");
export const decodePart = (content: Uint8Array) => decode(partSchema, content, "part state");
export const decodeAssemblyHeader = (content: Uint8Array) =>
  decode(assemblySchema, content, "assembly state");

/** Descriptions of components as other clouds and OCI tools make them, and a repository's records. */
import { decodeAssembly, encodeAssembly } from "../../../src/repository/assembly-state.ts";
import {
  decodeChecked,
  decodeDescription,
  decodeFragments,
  decodeIndex,
  decodeLease,
  decodeManifest,
  decodeNames,
  decodePart,
  decodePin,
} from "../../../src/repository/decode.ts";
import { packageComponent } from "../../../src/repository/packaging.ts";
import { changedJson } from "../json.ts";
import type { FuzzTarget } from "../target.ts";

const DIGEST = `sha256:${"ab".repeat(32)}` as const;
const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));

const made = packageComponent(
  {
    kind: "program",
    name: "nginx",
    version: "1.22.1-9",
    architecture: "amd64",
    packages: [{ name: "nginx", version: "1.22.1-9", architecture: "amd64" }],
    provides: [{ type: "package", name: "httpd" }],
    requires: [
      { type: "soname", name: "libc.so.6", version: "GLIBC_2.34" },
      {
        type: "package",
        name: "a",
        relation: ">=",
        version: "1",
        alternatives: [{ type: "package", name: "b" }],
      },
    ],
    instancePaths: ["/var/log/nginx"],
    recipe: DIGEST,
  },
  [{ path: "/etc/passwd", text: "www-data:x:33:33::/var/www:/usr/sbin/nologin\n" }],
  { digest: DIGEST, sizeBytes: 4096 },
);

function target(
  name: string,
  seeds: readonly Uint8Array[],
  decode: (bytes: Buffer) => unknown,
): FuzzTarget {
  const buffers = seeds.map((seed) => Buffer.from(seed));
  return {
    name,
    codes: ["repository.json-invalid"],
    seeds: () => buffers,
    generate: changedJson,
    decode,
  };
}

const descriptor = { mediaType: "a/b", digest: DIGEST, size: 5 };
const index = { schemaVersion: 2, manifests: [{ ...descriptor, annotations: { a: "b" } }] };
const RECORDS = [
  { owner: "m", ids: [DIGEST] },
  { holder: { pid: 1, startTicks: 2, bootId: "x" }, blobs: { [DIGEST]: 5 } },
  { sizeBytes: 1, modified_ms: 2, changed_ms: 3, inode: 4 },
  { sizeBytes: 1, checkpointBytes: 2, checkpointDigest: DIGEST, bootId: "x" },
];

function decodeRecord(bytes: Buffer): unknown {
  const decoders = [decodePin, decodeLease, decodeChecked, decodePart];
  const kind = Math.max(
    0,
    ["owner", "holder", "modified_ms", "bootId"].findIndex((word) => bytes.includes(word)),
  );
  return decoders[kind]?.(bytes);
}

export const REPOSITORY_TARGETS: readonly FuzzTarget[] = [
  target("manifest", [made.manifest.content], decodeManifest),
  target("description", [made.config.content], decodeDescription),
  target("fragments", [made.fragments.content], decodeFragments),
  target("oci-index", [json(index)], decodeIndex),
  target("oci-names", [json(index), made.manifest.content], decodeNames),
  target("records", RECORDS.map(json), decodeRecord),
  {
    name: "assembly-state",
    codes: ["repository.json-invalid"],
    seeds: () => [
      Buffer.from(encodeAssembly({ sizeBytes: 5, inode: 7, state: Buffer.from("state") })),
    ],
    decode: decodeAssembly,
  },
];

import { canonicalJson, hasCode, TesseraError, type ProcessIdentity, type World } from "#core";
import { Blobs } from "./blobs.ts";
import { Catalogue } from "./catalogue.ts";
import { Collector } from "./collect.ts";
import type { ComponentStore } from "./contract.ts";
import { decodeMarker } from "./decode.ts";
import { FileIndex } from "./file-index.ts";
import { directoriesOf, INDEX_TYPE, layoutOf, type Layout } from "./layout.ts";
import { Leases } from "./leases.ts";
import { Locks } from "./locks.ts";
import { PackFiles } from "./packs.ts";
import type { Parts } from "./parts.ts";
import { Pins } from "./pins.ts";
import { SignatureIndex } from "./signature-index.ts";
import { LayoutStore } from "./store.ts";

const MARKER = canonicalJson({ imageLayoutVersion: "1.0.0" });
const EMPTY_INDEX = canonicalJson({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests: [] });

/** Bound of the packs that are kept when the caller names none. */
const PACK_BYTES_MAX = 2 ** 30;

export interface RepositoryOptions {
  /** Most bytes that cached packs occupy; default 1 GiB, 0 keeps none. */
  readonly packBytesMax?: number;
}

/**
 * Opens the repository in `directory`, and makes it when there is none. Any number of processes of
 * one host may have it open. What processes that died left behind is tidied up.
 *
 * @throws `repository.layout-invalid` (corrupt) when the directory holds something else
 */
export async function openRepository(
  world: World,
  directory: string,
  options: RepositoryOptions = {},
): Promise<ComponentStore> {
  const layout = layoutOf(directory);
  const parts = assemble(world, layout, ownIdentity(world), options);
  for (const path of directoriesOf(layout)) await world.files.makeDirectory(path);
  await parts.catalogue.exclusively(() => ensureLayout(world, layout));
  await parts.leases.tidy();
  await parts.locks.tidy();
  return new LayoutStore(parts);
}

function assemble(
  world: World,
  layout: Layout,
  identity: ProcessIdentity,
  { packBytesMax = PACK_BYTES_MAX }: RepositoryOptions,
): Parts {
  const token = world.random.uuid();
  const blobs = new Blobs(world, layout);
  const locks = new Locks(world, layout, identity, token);
  const leases = new Leases(world, layout, identity, token);
  const pins = new Pins(world, layout);
  const catalogue = new Catalogue(world, layout, blobs, locks);
  const collector = new Collector(world, layout, { blobs, locks, leases, pins, catalogue });
  const fileIndex = new FileIndex({ world, layout, blobs, locks, catalogue });
  const packs = new PackFiles(world, layout, packBytesMax);
  const { bootId } = identity;
  const signatures = new SignatureIndex({ world, blobs, leases, catalogue });
  const rooms = { blobs, locks, leases, pins, catalogue, collector, fileIndex, packs, signatures };
  return { world, layout, bootId, ...rooms };
}

function ownIdentity(world: World): ProcessIdentity {
  const identity = world.processes.identify(process.pid);
  if (identity !== undefined) return identity;
  throw new TesseraError("bug", "repository.no-identity", "this process cannot identify itself");
}

/** The index is made before the marker: a directory with a marker is complete. */
async function ensureLayout(world: World, layout: Layout): Promise<void> {
  const { files } = world;
  if ((await files.status(layout.marker)) === undefined) {
    if ((await files.status(layout.index)) === undefined) {
      await files.writeFileAtomic(layout.index, EMPTY_INDEX);
    }
    await files.writeFileAtomic(layout.marker, MARKER);
  }
  try {
    decodeMarker(await files.readFile(layout.marker, 4096));
  } catch (cause) {
    if (!hasCode(cause, "repository.json-invalid")) throw cause;
    const message = `${layout.directory} is not an OCI image layout of version 1.0.0`;
    throw new TesseraError("corrupt", "repository.layout-invalid", message, {
      subject: layout.directory,
      remedy: "name another directory for the repository",
      cause,
    });
  }
}

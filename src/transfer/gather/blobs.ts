/** A component's manifest, description and fragments: everything but its image. */
import {
  referenceOf,
  TesseraError,
  type BlobReference,
  type ComponentReference,
  type Digest,
} from "#core";
import { nearestBases } from "#delta";
import type { ComponentStore, HeldRecipe } from "#repository";
import type { GatherOptions } from "./contract.ts";
import { settleAll } from "./settle.ts";
import type { Sources } from "./sources.ts";
import type { Tally } from "./tally.ts";

export interface Errand {
  readonly options: GatherOptions;
  readonly sources: Sources;
  readonly reference: ComponentReference;
  readonly signal: AbortSignal;
  readonly tally: Tally;
}

/** @throws `migration.component-mismatch`; as `Sources.first` */
export async function fetchSmallBlobs(errand: Errand): Promise<void> {
  const { options, reference } = errand;
  const { store } = options;
  const like = await resembling(store, reference);
  await fetchBlob(errand, reference.manifest, like?.[0]?.digest);
  const blobs = await store.blobsOf(reference.manifest);
  // Nothing of a component that was not asked for may get in.
  const image = blobs.find(({ digest }) => digest === reference.id);
  if (image?.sizeBytes !== reference.sizeBytes) throw otherComponent(reference);
  const digests = blobs.map(({ digest }) => digest);
  options.onBlobs?.(reference.id, digests);
  const others = blobs.filter((blob) => blob !== image);
  for (const { digest } of others) {
    if ((await store.find(digest)) !== undefined) throw otherComponent(reference);
  }
  await settleAll(
    others.map((blob) => fetchBlob(errand, blob, like?.[blobs.indexOf(blob) + 1]?.digest)),
  );
}

/** The manifest and the blobs, in the same order, of the nearest held component. */
async function resembling(
  store: ComponentStore,
  reference: ComponentReference,
): Promise<BlobReference[] | undefined> {
  const [nearest] = nearestBases(reference, (await store.list()).map(referenceOf), 1);
  if (nearest === undefined) return undefined;
  try {
    return [nearest.manifest, ...(await store.blobsOf(nearest.manifest))];
  } catch (error) {
    // It is only a help.
    if (error instanceof TesseraError) return undefined;
    throw error;
  }
}

/** From whoever has it; `base` is a held blob that resembles it. @throws as `Sources.first` */
export async function fetchBlob(errand: Errand, blob: BlobReference, base?: Digest): Promise<void> {
  const { options, sources, reference, signal, tally } = errand;
  if (await isKept(options.store, blob, signal)) return;
  const question = { component: reference.id, kind: "blob", signal } as const;
  await sources.first(question, async ({ source, receiver, signal: given }) => {
    try {
      await receiver.fetchBlob(blob, given, base === undefined ? {} : { base });
    } finally {
      tally.wire(source);
    }
  });
}

/** True when the blob is held, and stays: the lease of the ingest keeps it. */
async function isKept(
  store: ComponentStore,
  blob: BlobReference,
  signal: AbortSignal,
): Promise<boolean> {
  if (!(await store.hasBlob(blob.digest))) return false;
  const ingest = await store.ingest(blob, signal);
  await ingest?.release();
  return ingest === undefined;
}

/** Makes the component exist. @throws `migration.component-mismatch` */
export async function admit(
  store: ComponentStore,
  reference: ComponentReference,
  recipe: HeldRecipe | undefined,
): Promise<void> {
  const known = recipe === undefined ? undefined : { recipe };
  const { id } = await store.admit(reference.manifest, known);
  if (id === reference.id) return;
  await store.remove(id);
  throw otherComponent(reference);
}

function otherComponent({ id, name }: ComponentReference): TesseraError {
  const message = `the manifest that was given for component "${name}" is of another one`;
  return new TesseraError("peer", "migration.component-mismatch", message, { subject: id });
}

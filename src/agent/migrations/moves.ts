import { componentsOf, type Appliance, type Digest } from "#core";
import type { ComponentMove } from "#migration";
import { estimateContents, type ComponentContents } from "#transfer";
import { openContents } from "./contents.ts";
import type { PlanAnswer } from "./messages.ts";
import type { MigrationTools } from "./tools.ts";

/** How long the samples of one component may take; the migration sends what was made for them. */
const BUDGET_MS = 4_000;
/** Description and fragments are JSON. */
const JSON_RATIO = 0.2;

/** Manifest, description and fragments, compressed. */
async function smallBytes({ store }: MigrationTools, id: Digest): Promise<number> {
  const component = await store.find(id);
  if (component === undefined) return 0;
  const blobs = await store.blobsOf(component.manifest);
  const others = blobs.filter(({ digest }) => digest !== id);
  const bytes = others.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return component.manifest.sizeBytes + Math.ceil(bytes * JSON_RATIO);
}

/**
 * What each component that the destination lacks would move, given the bases that it names: packs
 * that were made before count exactly, others by samples.
 */
export async function movesOf(
  tools: MigrationTools,
  appliance: Appliance,
  { held, bases = [] }: PlanAnswer,
  bitsPerSecond: number,
): Promise<Map<Digest, ComponentMove>> {
  const moves = new Map<Digest, ComponentMove>();
  for (const { id } of componentsOf(appliance)) {
    if (held.includes(id)) continue;
    const named = bases.find(({ component }) => component === id)?.bases ?? [];
    moves.set(id, await moveOf(tools, id, { named, bitsPerSecond }));
  }
  return moves;
}

async function moveOf(
  tools: MigrationTools,
  id: Digest,
  { named, bitsPerSecond }: { readonly named: readonly Digest[]; readonly bitsPerSecond: number },
): Promise<ComponentMove> {
  const opened: ComponentContents[] = [];
  const open = async (digest: Digest): Promise<ComponentContents> => {
    const contents = await openContents(tools.store, digest);
    opened.push(contents);
    return contents;
  };
  try {
    const component = await open(id);
    const bases: ComponentContents[] = [];
    for (const base of named) {
      if ((await tools.store.find(base)) !== undefined) bases.push(await open(base));
    }
    const conditions = { bitsPerSecond, cores: tools.freeCores() };
    const { packs } = tools.store;
    const { clock } = tools.world;
    const input = { clock, component, bases, packs, conditions, budget_ms: BUDGET_MS };
    const { bytes, contents } = await estimateContents(input);
    return { bytes: bytes + (await smallBytes(tools, id)), contents };
  } finally {
    await Promise.all(opened.map(({ reader }) => reader.close()));
  }
}

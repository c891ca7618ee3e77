import type { ComponentReference, World } from "#core";
import { admit, fetchSmallBlobs } from "./blobs.ts";
import type { ComponentReport, GatherOptions, GatherReport } from "./contract.ts";
import { Claims } from "./claims.ts";
import { settleAll } from "./settle.ts";
import { Slots } from "../slots.ts";
import { ImageFetch } from "./image.ts";
import { Sources } from "./sources.ts";
import { Tally } from "./tally.ts";

/** Components that are fetched side by side: so many recipes are in memory. */
const COMPONENTS_MAX = 8;
/** Images that are put together side by side. */
const IMAGES_MAX = 2;

/**
 * Obtains the components that are not held, each by its recipe: what some held component has is
 * copied, the rest comes from the sources, and the image's digest decides. A component that another
 * call or process is fetching is waited for. What came is kept when this is aborted or killed, and
 * the next call goes on with it.
 *
 * @throws `transfer.no-source` (peer) with the causes, or the only one; `migration.component-mismatch`
 *   (peer); `repository.no-space`; the signal's reason
 */
export async function gatherComponents(
  world: World,
  options: GatherOptions,
): Promise<GatherReport> {
  const { store, owner, references, signal } = options;
  // Pinned first: what is found then stays.
  await store.pin(
    owner,
    references.map(({ id }) => id),
  );
  const held = new Set((await store.list()).map(({ id }) => id));
  const missing = references.filter(({ id }) => !held.has(id));
  const sources = new Sources(world, options.sources, options.stall_ms);
  const halt = new AbortController();
  const work = { world, options, sources, signal: AbortSignal.any([signal, halt.signal]) };
  const [components, images] = [new Slots(COMPONENTS_MAX), new Slots(IMAGES_MAX)];
  const claims = new Claims();
  const reports = missing.map((reference) =>
    components
      .run(() => gatherOne({ ...work, reference, images, claims }))
      .catch((error: unknown) => {
        halt.abort(error);
        throw error;
      }),
  );
  const done = await settleAll(reports);
  const wireBytes = done.reduce((sum, report) => sum + report.wireBytes, 0);
  return { components: done, wireBytes, liars: sources.liars };
}

interface OneJob {
  readonly world: World;
  readonly options: GatherOptions;
  readonly sources: Sources;
  readonly signal: AbortSignal;
  readonly reference: ComponentReference;
  readonly images: Slots;
  readonly claims: Claims;
}

async function gatherOne(job: OneJob): Promise<ComponentReport> {
  const { world, options, sources, reference, images, claims } = job;
  const halt = new AbortController();
  const signal = AbortSignal.any([job.signal, halt.signal]);
  signal.throwIfAborted();
  const question = { component: reference.id, kind: "image", signal } as const;
  const tally = new Tally(world, sources, reference, options.onProgress);
  const errand = { options, sources, reference, signal, tally };
  const image = new ImageFetch({ ...errand, world, question, gate: images, claims });
  const guard = <T>(part: Promise<T>): Promise<T> =>
    part.catch((error: unknown) => {
      halt.abort(error);
      throw error;
    });
  try {
    const [recipe] = await settleAll([
      guard(image.run()),
      guard(fetchSmallBlobs(errand).then(() => undefined)),
    ]);
    await admit(options.store, reference, recipe);
  } finally {
    image.endClaims();
  }
  const report = tally.report();
  await options.onComponent?.(report);
  return report;
}

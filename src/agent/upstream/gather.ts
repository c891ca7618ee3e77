/** Components from the members of the federation and from the upstream registry. */
import { hasCode, reportOf, TesseraError, type ComponentReference, type World } from "#core";
import { prefersWhole } from "#delta";
import {
  gatherComponents,
  type ComponentReport,
  type GatherOptions,
  type GatherReport,
} from "#transfer";
import type { Upstream } from "./upstream.ts";

/** Of an image, what a cloud sends at most as a rule: contents that are not held, compressed. */
const MEMBER_SHARE = 0.4;

export interface UpstreamGathering extends GatherOptions {
  /** What went wrong at the registry, for people. */
  readonly onRemark: (remark: string) => Promise<void> | void;
}

/**
 * As `gatherComponents`, with the upstream as one more holder: what it is best for comes from there,
 * and what nobody else could send. A registry that fails is a remark: others are asked.
 */
export async function gatherWithUpstream(
  world: World,
  upstream: Upstream | undefined,
  options: UpstreamGathering,
): Promise<GatherReport> {
  if (upstream === undefined) return await gatherComponents(world, options);
  const { store, owner, references } = options;
  // Pinned first: what comes then stays.
  await store.pin(
    owner,
    references.map(({ id }) => id),
  );
  const pulls = new Pulls(upstream, options);
  for (const reference of await missingOf(options)) {
    if (await pulls.isBest(reference)) await pulls.pull(reference);
  }
  try {
    const report = await gatherComponents(world, options);
    return pulls.with(report);
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof TesseraError) || error.fault !== "peer") throw error;
    for (const reference of await missingOf(options)) {
      if (!(await pulls.pull(reference))) throw error;
    }
    const nothing: GatherReport = { components: [], wireBytes: 0, liars: [] };
    return pulls.with(nothing);
  }
}

async function missingOf({ store, references }: GatherOptions): Promise<ComponentReference[]> {
  const held = new Set((await store.list()).map(({ id }) => id));
  return references.filter(({ id }) => !held.has(id));
}

class Pulls {
  readonly #upstream: Upstream;
  readonly #options: UpstreamGathering;
  readonly #reports: ComponentReport[] = [];
  readonly #tried = new Set<string>();
  /** It cannot be reached: it is not waited for again. */
  #away = false;

  constructor(upstream: Upstream, options: UpstreamGathering) {
    this.#upstream = upstream;
    this.#options = options;
  }

  async isBest({ id, sizeBytes }: ComponentReference): Promise<boolean> {
    const others = this.#options.sources.filter((source) => source.holds(id));
    return prefersWhole({
      whole: await this.#upstream.holder(),
      others: others.map(({ holder }) => holder),
      sizeBytes,
      otherBytes: sizeBytes * MEMBER_SHARE,
    });
  }

  /** True when it has come; each component is asked for once. */
  async pull(reference: ComponentReference): Promise<boolean> {
    if (this.#away || this.#tried.has(reference.id)) return false;
    this.#tried.add(reference.id);
    const { signal, onRemark } = this.#options;
    try {
      const onProgress = this.#progressOf(reference);
      const movedBytes = await this.#upstream.pull(reference, { signal, onProgress });
      if (movedBytes === undefined) return false;
      await this.#done(reference, movedBytes);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      this.#away = hasCode(error, "registry.unreachable");
      await onRemark(
        `${reference.name} does not come from ${this.#upstream.name}: ${wordsOf(error)}`,
      );
      return false;
    }
  }

  with({ components, wireBytes, liars }: GatherReport): GatherReport {
    const pulledBytes = this.#reports.reduce((sum, report) => sum + report.wireBytes, 0);
    return {
      components: [...this.#reports, ...components],
      wireBytes: wireBytes + pulledBytes,
      liars,
    };
  }

  #progressOf({ id, sizeBytes }: ComponentReference) {
    const { onProgress } = this.#options;
    const source = this.#upstream.name;
    return ({ blob, doneBytes }: { readonly blob: string; readonly doneBytes: number }): void => {
      if (blob !== id) return;
      const counts = { doneBytes, wireBytes: doneBytes, totalBytes: sizeBytes, savedBytes: 0 };
      onProgress?.({ component: id, ...counts, source });
    };
  }

  async #done({ id, name, sizeBytes }: ComponentReference, movedBytes: number): Promise<void> {
    const report: ComponentReport = {
      id,
      name,
      sizeBytes,
      heldBytes: 0,
      copiedFrom: [],
      patchedBytes: 0,
      missingBytes: sizeBytes,
      wireBytes: movedBytes,
      wireBytesBySource: { [this.#upstream.name]: movedBytes },
      asBlob: true,
    };
    this.#reports.push(report);
    await this.#options.onComponent?.(report);
  }
}

export function wordsOf(error: unknown): string {
  return reportOf(error).message;
}

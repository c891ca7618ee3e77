import {
  componentsOf,
  type ComponentReference,
  type ContentShares,
  type Digest,
  type EncodingShares,
} from "#core";
import type { ComponentReport, GatherSource, TransferProgress } from "#transfer";
import { askHelpers, type Helpers } from "../help/helpers.ts";
import { gatherWithUpstream } from "../upstream/gather.ts";
import type { CourseOf, Happening } from "./course.ts";
import type { ReceiverHolder } from "./fetch.ts";
import type { DestinationPart } from "./record.ts";
import { keepSignatures, requireSigned } from "./signed.ts";
import type { MigrationTools } from "./tools.ts";

type DestinationCourse = CourseOf<DestinationPart>;
type Heard = Happening<DestinationPart, "components-held">;

/** What has been found out about one component, added to what an earlier attempt found. */
function withReport(
  { componentBytes, componentContents = {}, componentSources = {} }: DestinationPart,
  report: ComponentReport,
) {
  const { id, wireBytes, wireBytesBySource, heldBytes, patchedBytes, missingBytes } = report;
  const contents: ContentShares = {
    heldBytes,
    patchedBytes,
    missingBytes: Math.max(0, missingBytes - patchedBytes),
  };
  const sources = { ...componentSources[id] };
  for (const [cloud, bytes] of Object.entries(wireBytesBySource)) {
    sources[cloud] = (sources[cloud] ?? 0) + bytes;
  }
  return {
    componentBytes: { ...componentBytes, [id]: (componentBytes[id] ?? 0) + wireBytes },
    componentContents: report.asBlob ? componentContents : { ...componentContents, [id]: contents },
    componentSources: { ...componentSources, [id]: sources },
  };
}

/** Adds up how things were compressed, over streams and attempts. */
export class EncodingsTaken {
  readonly #streams = new Map<string, EncodingShares>();
  #past: EncodingShares;

  constructor(past: EncodingShares = {}) {
    this.#past = past;
  }

  note({ stream, encodings }: TransferProgress): void {
    if (encodings !== undefined) this.#streams.set(stream, structuredClone(encodings));
  }

  /** A connection has ended: its streams begin to count anew. */
  settle(): void {
    this.#past = this.total();
    this.#streams.clear();
  }

  total(): EncodingShares {
    const sum: Record<string, { rawBytes: number; wireBytes: number }> = {};
    for (const shares of [this.#past, ...this.#streams.values()]) {
      for (const [name, { rawBytes, wireBytes }] of Object.entries(shares)) {
        const one = (sum[name] ??= { rawBytes: 0, wireBytes: 0 });
        one.rawBytes += rawBytes;
        one.wireBytes += wireBytes;
      }
    }
    return sum;
  }
}

/**
 * Fetches what the repository does not hold, from the source, from others that would send it, and
 * from the upstream registry where that is better: the only bytes of a component that ever travel.
 */
export async function fetchComponents(
  tools: MigrationTools,
  holder: ReceiverHolder,
  course: DestinationCourse,
  signal: AbortSignal,
): Promise<Heard> {
  const { world } = tools;
  const { id, peer, took_ms } = course.record;
  const begin_ms = world.clock.monotonic();
  const missing = await missingOf(tools, course.record);
  await requireSigned(tools, course.record);
  const helpers = await askHelpers(tools, { migration: id, source: peer, missing });
  try {
    const found = await gather(tools, { holder, course, helpers, signal });
    await keepSignatures(tools, course.record, missing);
    const components = (took_ms.components ?? 0) + world.clock.monotonic() - begin_ms;
    const wireBytes = found.wireBytes + holder.takeWireBytes() + helpers.takeWireBytes();
    return {
      event: "components-held",
      patch: { took_ms: { ...took_ms, components }, wireBytes, encodings: holder.encodings() },
    };
  } finally {
    await helpers.close();
    const link = holder.link();
    if (link !== undefined) await tools.rates.note(peer, link);
  }
}

async function missingOf(
  { store }: MigrationTools,
  { appliance }: DestinationPart,
): Promise<ComponentReference[]> {
  const held = new Set((await store.list()).map(({ id }) => id));
  return componentsOf(appliance).filter(({ id }) => !held.has(id));
}

/** The migration's source, by what was measured of it or else what it announces. */
async function mainSource(
  { transport, rates }: MigrationTools,
  holder: ReceiverHolder,
  course: DestinationCourse,
): Promise<GatherSource> {
  const { peer } = course.record;
  const offer = transport.peers().find(({ cloud }) => cloud === peer)?.offer;
  const announced = offer?.linkRate === undefined ? {} : { bitsPerSecond: offer.linkRate };
  const rate = await rates.of(peer);
  return {
    holder: { cloud: peer, pricePerGB: offer?.egressPricePerGB ?? 0, ...announced, ...rate },
    open: () => holder.open(course),
    holds: () => true,
  };
}

/** @returns the record with what was found out */
async function gather(
  tools: MigrationTools,
  {
    holder,
    course,
    helpers,
    signal,
  }: {
    readonly holder: ReceiverHolder;
    readonly course: DestinationCourse;
    readonly helpers: Helpers;
    readonly signal: AbortSignal;
  },
): Promise<DestinationPart> {
  const { world, store } = tools;
  const { id, appliance } = course.record;
  let found = course.record;
  const { liars } = await gatherWithUpstream(world, tools.upstream, {
    store,
    sources: [await mainSource(tools, holder, course), ...helpers.sources],
    references: componentsOf(appliance),
    owner: `migration:${id}`,
    signal,
    onRemark: (remark) => course.note({}, "upstream", remark),
    onBlobs: (component: Digest, blobs) => tools.own(id, component, blobs),
    onProgress: ({ component, source: from, ...progress }) =>
      tools.progress(id, {
        stream: component,
        ...progress,
        ...(from === undefined ? {} : { source: from }),
      }),
    onComponent: async (report) => {
      // Several may end at a time: what one has found must be in the patch of the next.
      const wireBytes =
        found.wireBytes +
        holder.takeWireBytes() +
        helpers.takeWireBytes() +
        (report.wireBytesBySource[tools.upstream?.name ?? ""] ?? 0);
      const patch = { ...withReport(found, report), wireBytes };
      found = { ...found, ...patch };
      await course.note(patch, "component-held", `${report.name} ${report.wireBytes} bytes`);
    },
  });
  for (const { cloud } of liars) tools.rates.distrust(cloud);
  return found;
}

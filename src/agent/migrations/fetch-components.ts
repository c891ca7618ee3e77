import { componentsOf, type ContentShares, type Digest, type EncodingShares } from "#core";
import type { DestinationEvent } from "#migration";
import {
  gatherComponents,
  type ComponentReport,
  type GatherSource,
  type TransferProgress,
} from "#transfer";
import type { Course, Happening } from "./course.ts";
import type { ReceiverHolder } from "./fetch.ts";
import type { DestinationRecord } from "./record.ts";
import type { MigrationTools } from "./tools.ts";

type DestinationCourse = Course<DestinationRecord, DestinationEvent>;
type Heard = Happening<DestinationRecord, DestinationEvent>;

/** What has been found out about one component, added to what an earlier attempt found. */
function withReport(
  { componentBytes, componentContents = {}, componentSources = {} }: DestinationRecord,
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
 * Fetches what the repository does not hold, from the source and from others that would send it:
 * the only bytes of a component that ever travel.
 */
export async function fetchComponents(
  tools: MigrationTools,
  holder: ReceiverHolder,
  course: DestinationCourse,
  options: {
    readonly signal: AbortSignal;
    /** Other clouds that would send. */
    readonly helpers?: readonly GatherSource[];
  },
): Promise<Heard> {
  const { world, store } = tools;
  const { id, peer, appliance, took_ms } = course.record;
  const begin_ms = world.clock.monotonic();
  const offer = tools.transport.peers().find(({ cloud }) => cloud === peer)?.offer;
  const source: GatherSource = {
    holder: {
      cloud: peer,
      pricePerGB: offer?.egressPricePerGB ?? 0,
      ...(offer?.linkRate === undefined ? {} : { bitsPerSecond: offer.linkRate }),
    },
    open: () => holder.open(course),
    holds: () => true,
  };
  let found = course.record;
  await gatherComponents(world, {
    store,
    sources: [source, ...(options.helpers ?? [])],
    references: componentsOf(appliance),
    owner: `migration:${id}`,
    signal: options.signal,
    onBlobs: (component: Digest, blobs) => tools.own(id, component, blobs),
    onProgress: ({ component, source: from, ...progress }) =>
      tools.progress(id, {
        stream: component,
        ...progress,
        ...(from === undefined ? {} : { source: from }),
      }),
    onComponent: async (report) => {
      // Several may end at a time: what one has found must be in the patch of the next.
      const wireBytes = found.wireBytes + holder.takeWireBytes();
      const patch = { ...withReport(found, report), wireBytes };
      found = { ...found, ...patch };
      await course.note(patch, "component-held", `${report.name} ${report.wireBytes} bytes`);
    },
  });
  const components = (took_ms.components ?? 0) + world.clock.monotonic() - begin_ms;
  const wireBytes = found.wireBytes + holder.takeWireBytes();
  return {
    event: "components-held",
    patch: { took_ms: { ...took_ms, components }, wireBytes, encodings: holder.encodings() },
  };
}

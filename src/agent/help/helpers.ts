/** Asking other members for components that a migration brings. */
import { reportOf, type ComponentReference, type Digest, type Json } from "#core";
import type { Peer } from "#federation";
import { connectReceiver, type DataReceiver, type GatherSource } from "#transfer";
import type { MigrationTools } from "../migrations/tools.ts";
import { COMPONENTS_MAX, decodeAnswer, type HelpAnswer } from "./messages.ts";

/** Below so many bytes of images nobody else is asked: the source has sent them before. */
const WORTHWHILE_BYTES = 8 * 2 ** 20;
/** Clouds that are asked. */
const ASKED_MAX = 8;
const ANSWER_MS = 3_000;
const HEAD_DIGITS = 16;

export interface HelpNeed {
  readonly migration: string;
  /** The migration's source, which is not asked. */
  readonly source: string;
  readonly missing: readonly ComponentReference[];
  /** Ask however little is missing: nobody else would send it. */
  readonly always?: boolean;
}

/** The clouds that would send, open until `close`. */
export interface Helpers {
  readonly sources: readonly GatherSource[];
  /** Bytes on the wire with all of them since the last call. */
  takeWireBytes(): number;
  /** Ends the sessions, and keeps what was measured. */
  close(): Promise<void>;
}

/** True when a cloud's offer does not rule out that it holds one of the components. */
export function mayHold({ offer }: Peer, missing: readonly ComponentReference[]): boolean {
  if (offer === undefined) return false;
  const { heads, complete } = offer.repository;
  if (!complete) return true;
  const known = new Set(heads);
  return missing.some(({ id }) => known.has(id.slice("sha256:".length).slice(0, HEAD_DIGITS)));
}

/** Asks the members that may hold what is missing; who does not answer in time is left out. */
export async function askHelpers(tools: MigrationTools, need: HelpNeed): Promise<Helpers> {
  const { missing, source } = need;
  const bytes = missing.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const asked =
    bytes < WORTHWHILE_BYTES && need.always !== true
      ? []
      : tools.transport
          .peers()
          .filter((peer) => peer.cloud !== source && tools.peer(peer.cloud) !== undefined)
          .filter((peer) => !tools.rates.distrusts(peer.cloud) && mayHold(peer, missing))
          .slice(0, ASKED_MAX);
  const answers = await Promise.all(asked.map(({ cloud }) => ask(tools, need, cloud)));
  const helpers = answers.filter((helper) => helper !== undefined);
  return {
    sources: helpers.map((helper) => helper.source),
    takeWireBytes: () => helpers.reduce((sum, helper) => sum + helper.takeWireBytes(), 0),
    close: async () => {
      await Promise.all(helpers.map((helper) => helper.close()));
    },
  };
}

async function ask(
  tools: MigrationTools,
  need: HelpNeed,
  cloud: string,
): Promise<Helper | undefined> {
  try {
    const wanted = need.missing.slice(0, COMPONENTS_MAX).map(({ id }) => id);
    const answer = decodeAnswer(cloud, await request(tools, need.migration, cloud, wanted));
    if (answer.data === undefined || answer.components.length === 0) return undefined;
    const rate = await tools.rates.of(cloud);
    const { pricePerGB, bitsPerSecond } = answer;
    const announced = bitsPerSecond === undefined ? {} : { bitsPerSecond };
    const holder = { cloud, pricePerGB, ...announced, ...rate };
    return new Helper(tools, need.migration, holder, answer.components, answer.data);
  } catch (error) {
    tools.world.log.log("info", "a cloud does not help", { cloud, ...reportOf(error) });
    return undefined;
  }
}

async function request(
  { transport, dataIdentity }: MigrationTools,
  migration: string,
  cloud: string,
  components: readonly Digest[],
): Promise<Json> {
  const body = { version: 1, components: [...components], certificate: dataIdentity.certificate };
  const message = { session: migration, action: "component-offer", body } as const;
  return await transport.request(cloud, message, ANSWER_MS);
}

class Helper {
  readonly source: GatherSource;
  readonly #tools: MigrationTools;
  readonly #migration: string;
  readonly #data: NonNullable<HelpAnswer["data"]>;
  #receiver: DataReceiver | undefined;
  #takenBytes = 0;

  constructor(
    tools: MigrationTools,
    migration: string,
    holder: GatherSource["holder"],
    components: readonly Digest[],
    data: NonNullable<HelpAnswer["data"]>,
  ) {
    this.#tools = tools;
    this.#migration = migration;
    this.#data = data;
    const held = new Set(components);
    this.source = { holder, open: () => this.#open(), holds: (id) => held.has(id) };
  }

  #open(): DataReceiver {
    const { world, dataIdentity, store } = this.#tools;
    const { endpoint, session, token } = this.#data;
    let resumeToken: string | undefined;
    this.#receiver ??= connectReceiver(world, {
      identity: dataIdentity,
      endpoint,
      session,
      token,
      store,
      // A restarted agent asks again, and is given another session.
      resume: {
        load: () => Promise.resolve(resumeToken),
        save: (text) => {
          resumeToken = text;
          return Promise.resolve();
        },
      },
    });
    return this.#receiver;
  }

  takeWireBytes(): number {
    const all = this.#receiver?.wireBytes() ?? 0;
    const fresh = all - this.#takenBytes;
    this.#takenBytes = all;
    return fresh;
  }

  async close(): Promise<void> {
    const { world, rates } = this.#tools;
    const { cloud } = this.source.holder;
    const link = this.#receiver?.link?.();
    if (link !== undefined) await rates.note(cloud, link);
    await this.#receiver?.close();
    // Without this the session ends by itself, later.
    request(this.#tools, this.#migration, cloud, []).catch((error: unknown) => {
      world.log.log("info", "a cloud that helped is not told", { cloud, ...reportOf(error) });
    });
  }
}

/** Sending components to other clouds' destinations. */
import { reportOf, TesseraError, type Digest, type Json, type World } from "#core";
import type { ComponentStore } from "#repository";
import { newToken, type DataEndpoint, type DataServer, type DataSource } from "#transfer";
import { componentSource, notOffered } from "../migrations/contents.ts";
import { createTurns } from "../turns.ts";
import { decodeQuestion, type HelpAnswer } from "./messages.ts";

/** What this cloud would do for others. */
export interface HelpPolicy {
  readonly helps: boolean;
  /** Sessions at a time. */
  readonly sessionsMax: number;
  /** Of each session; absent for none. */
  readonly bitsPerSecondMax?: number;
  /** A session ends so long after it was asked for. */
  readonly time_ms: number;
  /** The uplink as configured. */
  readonly linkRate?: number;
  readonly pricePerGB: number;
}

export interface HelpTools {
  readonly world: World;
  readonly store: ComponentStore;
  readonly dataServer: DataServer;
  endpoint(): DataEndpoint;
  freeCores(): number;
  readonly policy: HelpPolicy;
}

interface Helping {
  readonly cancel: () => void;
}

const OWNER = "help:";
const NOTHING: readonly Digest[] = [];

/**
 * Answers who asks for components. Each asker and migration has one session, bound to the
 * certificate that it names and to the components that are held; asking again replaces it.
 */
export class HelpDesk {
  readonly #tools: HelpTools;
  /** By the session's name. */
  readonly #helping = new Map<string, Helping>();
  readonly #turns = createTurns();

  constructor(tools: HelpTools) {
    this.#tools = tools;
  }

  /** Forgets what a run before has pinned. To be called once, before anything is answered. */
  async recover(): Promise<void> {
    const { store } = this.#tools;
    for (const owner of (await store.pins()).keys()) {
      if (owner.startsWith(OWNER)) await store.unpin(owner);
    }
  }

  /** @throws `migration.message-invalid` (peer) */
  async answer(from: string, migration: string, body: Json): Promise<HelpAnswer> {
    const { components, certificate } = decodeQuestion(from, body);
    const session = `${OWNER}${from}:${migration}`;
    return await this.#turns.take("help", async () => {
      await this.#end(session);
      const { policy } = this.#tools;
      const full = this.#helping.size >= policy.sessionsMax;
      if (!policy.helps || full || components.length === 0) return this.#decline();
      return await this.#begin(session, components, certificate);
    });
  }

  /** Ends all sessions. */
  async stop(): Promise<void> {
    await this.#turns.take("help", async () => {
      const sessions = [...this.#helping.keys()];
      for (const session of sessions) await this.#end(session);
    });
  }

  #decline(): HelpAnswer {
    return { components: [...NOTHING], pricePerGB: this.#tools.policy.pricePerGB };
  }

  async #begin(
    session: string,
    wanted: readonly Digest[],
    peerCertificate: Digest,
  ): Promise<HelpAnswer> {
    const { world, store, dataServer, policy } = this.#tools;
    // Pinned first: what is found then stays.
    await store.pin(session, wanted);
    const held = new Set((await store.list()).map(({ id }) => id));
    const components = wanted.filter((id) => held.has(id));
    if (components.length === 0) {
      await store.unpin(session);
      return this.#decline();
    }
    const token = newToken(world.random);
    const { bitsPerSecondMax: limit } = policy;
    await dataServer.offer({
      id: session,
      token,
      peerCertificate,
      source: this.#source(components),
      cores: this.#tools.freeCores(),
      ...(limit === undefined ? {} : { bytesPerSecondMax: limit / 8 }),
    });
    const cancel = world.clock.after(policy.time_ms, () => this.#expire(session));
    this.#helping.set(session, { cancel });
    const { candidates, certificate } = this.#tools.endpoint();
    const rate = Math.min(limit ?? Infinity, policy.linkRate ?? Infinity);
    return {
      components,
      data: {
        session,
        token,
        endpoint: {
          candidates: candidates.map(({ host, port }) => ({ host, port })),
          certificate,
        },
      },
      ...(rate < Infinity ? { bitsPerSecond: rate } : {}),
      pricePerGB: policy.pricePerGB,
    };
  }

  #expire(session: string): void {
    this.#turns
      .take("help", () => this.#end(session))
      .catch((error: unknown) => {
        this.#tools.world.log.log("warn", "help is not ended", { ...reportOf(error) });
      });
  }

  async #end(session: string): Promise<void> {
    const helping = this.#helping.get(session);
    if (helping === undefined) return;
    this.#helping.delete(session);
    helping.cancel();
    await this.#tools.dataServer.withdraw(session);
    await this.#tools.store.unpin(session);
  }

  #source(components: readonly Digest[]): DataSource {
    const { store } = this.#tools;
    let allowed: Promise<ReadonlySet<Digest>> | undefined;
    return {
      ...componentSource(store, components),
      openBlob: async (digest) => {
        allowed ??= this.#blobsOf(components);
        if ((await allowed).has(digest)) return await store.openBlob(digest);
        throw notOffered(digest);
      },
      openUserData: () => Promise.reject(refused("transfer.not-offered", "user data")),
    };
  }

  async #blobsOf(components: readonly Digest[]): Promise<ReadonlySet<Digest>> {
    const { store } = this.#tools;
    const blobs = new Set<Digest>();
    for (const id of components) {
      const component = await store.find(id);
      if (component === undefined) continue;
      const list = [component.manifest, ...(await store.blobsOf(component.manifest))];
      for (const { digest } of list) blobs.add(digest);
    }
    return blobs;
  }
}

function refused(code: string, what: string): TesseraError {
  return new TesseraError("peer", code, `${what} is not offered here`, { subject: what });
}

/** What the source of a migration offers at its data port, whichever kind of migration it is. */
import { componentsOf, type Digest } from "#core";
import { newToken, type DataSource } from "#transfer";
import { noteSent, openArrived } from "../machine-data.ts";
import { componentSource, notOffered } from "./contents.ts";
import type { Proposal } from "./messages.ts";
import type { SourcePart } from "./record.ts";
import { signaturesOf } from "./signed.ts";
import type { MigrationTools } from "./tools.ts";

/** What differs between the kinds. */
export type OwnSource = Pick<DataSource, "openUserData"> &
  Partial<Pick<DataSource, "openBlocks" | "openMap" | "openMemory">>;

/** One migration's data at the data port. */
export class Serving {
  readonly #tools: MigrationTools;
  #token: string | undefined;
  #signatures: Proposal["signatures"];
  #offered: Promise<void> | undefined;
  #allowed: Promise<ReadonlySet<Digest>> | undefined;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
  }

  /**
   * Offers the migration's data to the destination's certificate. A restarted agent offers it
   * anew under a new token, which the destination learns from the next status.
   */
  async serve(record: SourcePart, own: OwnSource): Promise<void> {
    this.#offered ??= this.#offer(record, own);
    try {
      await this.#offered;
    } catch (cause) {
      this.#offered = undefined;
      throw cause;
    }
  }

  /** Where it is served, and under which token; undefined while it is not. */
  data(): Proposal["data"] | undefined {
    if (this.#token === undefined) return undefined;
    const { candidates, certificate } = this.#tools.endpoint();
    const endpoint = {
      candidates: candidates.map(({ host, port }) => ({ host, port })),
      certificate,
    };
    return { endpoint, token: this.#token };
  }

  /** Of the machine's components, as they were when the data was offered. */
  signatures(): Proposal["signatures"] {
    return this.#signatures;
  }

  async withdraw(id: string): Promise<void> {
    this.#token = undefined;
    await this.#tools.dataServer.withdraw(id);
  }

  async #offer(record: SourcePart, own: OwnSource): Promise<void> {
    const { world, dataServer } = this.#tools;
    const { id, peerCertificate, bytesPerSecondMax, plan } = record;
    const token = newToken(world.random);
    this.#signatures = await signaturesOf(this.#tools, record.appliance);
    await dataServer.withdraw(id);
    await dataServer.offer({
      id,
      token,
      peerCertificate,
      source: { ...this.#source(record), ...own },
      ...(bytesPerSecondMax === undefined ? {} : { bytesPerSecondMax }),
      cores: Math.max(1, this.#tools.freeCores()),
      ...(plan.rate.from === "assumed" ? {} : { expectedBitsPerSecond: plan.rate.bitsPerSecond }),
      onProgress: (event) => this.#tools.progress(id, event),
    });
    this.#token = token;
  }

  #source(record: SourcePart): Omit<DataSource, "openUserData"> {
    const { store, machines, world } = this.#tools;
    const directory = machines.store.directory(record.machine.uuid);
    const components = componentsOf(record.appliance).map(({ id }) => id);
    return {
      ...componentSource(store, components),
      openBlob: async (digest) => {
        this.#allowed ??= this.#blobs(record);
        if ((await this.#allowed).has(digest)) return await store.openBlob(digest);
        throw notOffered(digest);
      },
      openLineage: async (digest) => await openArrived(world, directory, digest),
      userDataSent: async (digests) => await noteSent(world, directory, digests),
    };
  }

  async #blobs(record: SourcePart): Promise<ReadonlySet<Digest>> {
    const { store } = this.#tools;
    const lists = await Promise.all(
      componentsOf(record.appliance).map(async ({ id, manifest }) => {
        const blobs = [manifest, ...(await store.blobsOf(manifest))].map(({ digest }) => digest);
        this.#tools.own(record.id, id, blobs);
        return blobs;
      }),
    );
    return new Set(lists.flat());
  }
}

/**
 * Two clouds in one process for the tests of this room: real repositories, journals and data ports,
 * the in-process federation, and a hypervisor that keeps its machines in memory.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { parseAppliance, resolveAppliance } from "#compose";
import type { Appliance, World } from "#core";
import {
  createInProcessFederation,
  temporaryAgentKey,
  type AgentKey,
  type Fate,
  type InProcessFederation,
  type Passage,
  type PeerCard,
} from "#federation";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { loadOrCreateDataIdentity, startDataServer, type DataServer } from "#transfer";
import { assemble, type Assembly } from "./assembly.ts";
import { addComponents } from "./components.suite.ts";
import { parseConfig, type Config } from "./config.ts";
import { NO_FAULTS } from "./faults.ts";
import { guestLines, Host, MemoryHypervisor } from "./hypervisor.suite.ts";
import { openJournal, type Journal } from "./journal.ts";
import { layoutOf } from "./layout.ts";
import type { JournalHooks } from "./migrations/course.ts";
import type { MigrationRecord } from "./migrations/record.ts";

const TIMES = { peerTimeout: 600_000, stopTimeout: 500, bootTimeout: 500, retry: 25 };
/** For tests in which somebody falls silent; in all others a machine with much to do is not silence. */
export const SILENCE = { peerTimeout_ms: 4_000 };
/** Only a test that fails waits so long: other work on the machine must not make it fail. */
const PATIENCE_MS = 300_000;
/** A status that is lost is told again after this. */
const LOST_MS = 200;

export interface CloudSettings {
  readonly name: string;
  /** Added to its `cloud.yaml`. */
  readonly config?: Partial<Config>;
  readonly components?: readonly string[];
}

/** One cloud; its agent can be restarted, its directory and its guests stay. */
export class TestCloud {
  readonly name: string;
  readonly root: string;
  readonly key: AgentKey = temporaryAgentKey();
  readonly hypervisor: MemoryHypervisor;
  hooks: JournalHooks = NO_FAULTS;
  world: World;
  readonly config: Config;
  readonly #federation: InProcessFederation;
  readonly #cards: () => readonly PeerCard[];
  #running:
    | { readonly assembly: Assembly; readonly journal: Journal; readonly data: DataServer }
    | undefined;

  constructor(
    { name, config = {} }: CloudSettings,
    root: string,
    host: Host,
    federation: InProcessFederation,
    cards: () => readonly PeerCard[],
  ) {
    this.name = name;
    this.root = root;
    this.world = realWorld();
    this.hypervisor = new MemoryHypervisor(name, host);
    this.#federation = federation;
    this.#cards = cards;
    const yaml = `{cloud: ${name}, domain: ${name}.example, room: r@x, xmpp: {server: embedded, clientPort: 1, serverPort: 2}, data: {port: 1}, resources: {cpus: 8, memory: 8G}}`;
    this.config = { ...parseConfig(yaml, "cloud.yaml"), times: TIMES, ...config };
  }

  card(): PeerCard {
    const domain = `${this.name}.example`;
    return { cloud: this.name, domain, jid: `agent@${domain}`, agentKey: this.key.publicKey };
  }

  async start(): Promise<void> {
    const { world, root, name, key, config, hypervisor } = this;
    await mkdir(root, { recursive: true });
    const layout = layoutOf(root);
    const journal = openJournal(layout.journal);
    const dataIdentity = await loadOrCreateDataIdentity(world, layout.data);
    const data = await startDataServer(world, {
      identity: dataIdentity,
      host: "127.0.0.1",
      port: 0,
    });
    const others = (): readonly PeerCard[] =>
      this.#cards().filter((card) => card.cloud !== this.name);
    const assembly = await assemble(
      world,
      {
        config,
        layout,
        key,
        journal,
        store: await openRepository(world, layout.repository),
        hypervisor,
        peers: {
          list: others,
          find: (cloud) => others().find((card) => card.cloud === cloud),
          add: () => Promise.resolve(),
          remove: () => Promise.resolve(),
        },
        transport: this.#federation.join(name, key, others),
        dataServer: data,
        dataIdentity,
        card: () => this.card(),
        transportState: () => "online",
      },
      { hooks: this.#hooks(), version: "test" },
    );
    this.#running = { assembly, journal, data };
    await assembly.start();
    await assembly.parts.offerChanged();
  }

  #hooks(): JournalHooks {
    return {
      beforeSave: (record) => this.hooks.beforeSave(record),
      afterSave: (record) => this.hooks.afterSave(record),
      holds: (record) => this.hooks.holds(record),
    };
  }

  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.assembly.stop();
    await running?.data.close();
    running?.journal.close();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  get parts(): Assembly["parts"] {
    if (this.#running === undefined) throw new Error(`${this.name} is stopped`);
    return this.#running.assembly.parts;
  }

  async appliance(programs: readonly string[] = ["web"]): Promise<Appliance> {
    const text = `{name: app, kernel: kernel, os: os, programs: [${programs.join(", ")}], resources: {cpus: 1, memory: 256M, data: 64M}}`;
    return await resolveAppliance(parseAppliance(text, "app.yaml"), this.parts.store);
  }

  /** A machine here, running unless `stopped` is given. */
  async machine(
    name = "web-1",
    options: { readonly stopped?: boolean; readonly programs?: readonly string[] } = {},
  ): Promise<string> {
    const { machines } = this.parts;
    const { uuid } = await machines.create(name, await this.appliance(options.programs), []);
    if (options.stopped !== true) await machines.start(uuid);
    return uuid;
  }

  /** Starts to migrate; gives the migration's id. */
  async migrate(uuid: string, to?: string, bwlimit?: number): Promise<string> {
    const { machines, migrations } = this.parts;
    const { machine } = await machines.store.resolve(uuid);
    const { record } = await migrations.start({
      machine,
      ...(to === undefined ? {} : { to }),
      ...(bwlimit === undefined ? {} : { bwlimit }),
    });
    return record.id;
  }

  record(id: string): MigrationRecord | undefined {
    return this.#running?.journal.load(id);
  }

  /** Resolves when a record satisfies the condition; looks after each change of the journal. */
  async until(id: string, holds: (record: MigrationRecord) => boolean): Promise<MigrationRecord> {
    const deadline_ms = Date.now() + PATIENCE_MS;
    for (;;) {
      const record = this.record(id);
      if (record !== undefined && holds(record)) return record;
      if (Date.now() > deadline_ms) {
        throw new Error(`${this.name}: still ${JSON.stringify(record?.phase)} of ${id}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async settled(id: string): Promise<MigrationRecord> {
    return await this.until(id, ({ settled }) => settled);
  }

  async lines(uuid: string): Promise<string[]> {
    const { bytes, length } = await guestLines(join(layoutOf(this.root).machines, uuid));
    return bytes.subarray(0, length).toString().split("\n").filter(Boolean);
  }
}

export interface TestFederation {
  readonly clouds: readonly [TestCloud, TestCloud];
  readonly host: Host;
  /** Decides about every message. */
  fate: (passage: Passage) => Fate;
  readonly federation: InProcessFederation;
  /** Cards that everybody trusts. */
  readonly cards: PeerCard[];
}

/** The real world, but for how long a status waits for its answer: 10 s are too long for tests. */
function impatientWorld(): World {
  const world = realWorld();
  const { clock } = world;
  const after: typeof clock.after = (wait_ms, callback) =>
    clock.after(wait_ms === 10_000 ? LOST_MS : wait_ms, callback);
  return { ...world, clock: { ...clock, after } };
}

/** Two clouds, `messina` with all small components and `inquadro` with none; gone after the test. */
export async function twoClouds(
  t: TestContext,
  settings: {
    readonly held?: readonly string[];
    /** Of `inquadro`. */
    readonly config?: Partial<Config>;
    /** Of `messina`. */
    readonly sourceConfig?: Partial<Config>;
    readonly peerTimeout_ms?: number;
  } = {},
): Promise<TestFederation> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-agent-"));
  const host = new Host();
  const cards: PeerCard[] = [];
  const result: { fate: TestFederation["fate"] } = { fate: () => ({ kind: "pass" }) };
  const federation = createInProcessFederation(impatientWorld(), (passage) => result.fate(passage));
  const times = { ...TIMES, peerTimeout: settings.peerTimeout_ms ?? TIMES.peerTimeout };
  const make = (name: string, more: Partial<Config> = {}): TestCloud => {
    const config = { times, ...more };
    return new TestCloud({ name, config }, join(directory, name), host, federation, () => cards);
  };
  const clouds = [
    make("messina", settings.sourceConfig),
    make("inquadro", settings.config),
  ] as const;
  t.after(async () => {
    for (const cloud of clouds) await cloud.stop();
    await rm(directory, { recursive: true, force: true });
  });
  for (const cloud of clouds) {
    cards.push(cloud.card());
    await mkdir(cloud.root, { recursive: true });
    const store = await openRepository(cloud.world, layoutOf(cloud.root).repository);
    const names = cloud.name === "messina" ? undefined : (settings.held ?? []);
    await addComponents(cloud.world, store, cloud.root, names);
  }
  for (const cloud of clouds) await cloud.start();
  return Object.assign(result, { clouds, host, federation, cards });
}

import { join } from "node:path";
import { reportOf, type World } from "#core";
import {
  cardFingerprint,
  createXmppTransport,
  type PeerCard,
  type XmppTransport,
} from "#federation";
import { createQemu, type Hypervisor } from "#hypervisor";
import { openRepository, type ComponentStore } from "#repository";
import { loadOrCreateDataIdentity, startDataServer } from "#transfer";
import { openAppliances } from "./appliances.ts";
import { cardOf, loadCloud, type Cloud } from "./cloud.ts";
import { createHandlers } from "./handlers/index.ts";
import type { Parts } from "./handlers/parts.ts";
import { serveApi } from "./http.ts";
import { openJournal } from "./journal.ts";
import { Machines } from "./machines.ts";
import type { JournalHooks } from "./migrations/course.ts";
import { Migrations } from "./migrations/migrations.ts";
import { ProgressBoard } from "./migrations/progress.ts";
import type { MigrationTools } from "./migrations/tools.ts";
import { createOffers } from "./offers.ts";
import { openPeers, type Peers } from "./peers.ts";
import { startXmpp, type Xmpp } from "./xmpp.ts";

export interface AgentOptions {
  readonly hooks: JournalHooks;
  readonly accelerator?: "kvm" | "tcg";
  /** Of Tessera, as package.json has it. */
  readonly version: string;
}

export interface Agent {
  readonly cloud: string;
  readonly socket: string;
  /** Ends the agent; machines run on. */
  stop(): Promise<void>;
  readonly stopped: Promise<void>;
}

/** Things to close at the end, last opened first. */
class Closers {
  readonly #list: (() => Promise<void>)[] = [];

  add<T>(value: T, close: (value: T) => Promise<void>): T {
    this.#list.push(() => close(value));
    return value;
  }

  async run(world: World): Promise<void> {
    for (const close of this.#list.splice(0).reverse()) {
      await close().catch((error: unknown) => {
        world.log.log("error", "closing failed", { ...reportOf(error) });
      });
    }
  }
}

/** The rooms of one cloud, open. */
interface Opened {
  readonly cloud: Cloud;
  readonly store: ComponentStore;
  readonly hypervisor: Hypervisor;
  readonly machines: Machines;
  readonly xmpp: Xmpp;
  readonly peers: Peers;
  readonly transport: XmppTransport;
}

/**
 * Starts a cloud's agent: opens its rooms, adopts the machines that survived an earlier agent, goes
 * on with the migrations that the journal holds, and serves the API.
 */
export async function startAgent(
  outside: World,
  root: string,
  options: AgentOptions,
): Promise<Agent> {
  const cloud = await loadCloud(outside, root);
  const world = { ...outside, log: outside.log.with({ cloud: cloud.config.cloud }) };
  const closers = new Closers();
  try {
    return await run(world, cloud, options, closers);
  } catch (error) {
    await closers.run(world);
    throw error;
  }
}

async function run(
  world: World,
  cloud: Cloud,
  options: AgentOptions,
  closers: Closers,
): Promise<Agent> {
  const opened = await openRooms(world, cloud, options, closers);
  const { config, layout } = cloud;
  const parts = await assemble(world, opened, options, closers);
  const { promise: stopped, resolve: finish } = Promise.withResolvers<void>();
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopping ??= closers.run(world).finally(finish));
  const handlers = createHandlers({ ...parts, shutdown: () => void stop() });
  await opened.machines.adoptAll();
  await opened.transport.start((from, message) => parts.migrations.handle(from, message));
  closers.add(opened.transport, (transport) => transport.stop());
  await parts.offerChanged();
  parts.migrations.recover();
  closers.add(parts.migrations, (migrations) => migrations.stop());
  const api = await serveApi({ handlers, socketPath: layout.socket, world });
  closers.add(api, (server) => server.close());
  return { cloud: config.cloud, socket: layout.socket, stop, stopped };
}

async function openRooms(
  world: World,
  cloud: Cloud,
  options: AgentOptions,
  closers: Closers,
): Promise<Opened> {
  const { config, layout, key } = cloud;
  const store = await openRepository(world, layout.repository);
  const hypervisor = createQemu(world, {
    probeCachePath: join(layout.root, "accelerator.json"),
    ...(options.accelerator === undefined ? {} : { accelerator: options.accelerator }),
  });
  const { stopTimeout, bootTimeout } = config.times;
  const machines = new Machines({
    world,
    layout,
    store,
    hypervisor,
    stopTimeout_ms: stopTimeout,
    bootTimeout_ms: bootTimeout,
    changed: () => undefined,
  });
  closers.add(machines, (all) => all.detach());
  const late: { xmpp?: Xmpp; transport?: XmppTransport } = {};
  const peers = await openPeers({
    files: world.files,
    directory: layout.peers,
    cloud: config.cloud,
    changed: (cards) => putInForce(late, cards),
  });
  const xmpp = await startXmpp(world, cloud, peers.list());
  closers.add(xmpp, (server) => server.stop());
  const { account, address, ca, hostsRoom } = xmpp;
  const transport = createXmppTransport(world, {
    cloud: config.cloud,
    key,
    account,
    address,
    room: config.room,
    hostsRoom,
    peers: () => peers.list(),
    ...(ca === undefined ? {} : { ca }),
  });
  Object.assign(late, { xmpp, transport });
  return { cloud, store, hypervisor, machines, xmpp, peers, transport };
}

async function putInForce(
  { xmpp, transport }: { xmpp?: Xmpp; transport?: XmppTransport },
  cards: readonly PeerCard[],
): Promise<void> {
  await xmpp?.setPeers(cards);
  await transport?.refreshPeers();
}

async function openData(world: World, { config, layout }: Cloud, closers: Closers) {
  const identity = await loadOrCreateDataIdentity(world, layout.data);
  const { host, port, advertise } = config.data;
  const options = { identity, host, port, ...(advertise === undefined ? {} : { advertise }) };
  const server = await startDataServer(world, options);
  closers.add(server, (open) => open.close());
  return { dataIdentity: identity, dataServer: server };
}

async function assemble(
  world: World,
  opened: Opened,
  { hooks, version }: AgentOptions,
  closers: Closers,
): Promise<Parts> {
  const { cloud, store, hypervisor, machines, peers, transport } = opened;
  const { config, layout, key } = cloud;
  const journal = openJournal(layout.journal);
  closers.add(journal, (open) => Promise.resolve(open.close()));
  const data = await openData(world, cloud, closers);
  const capabilities = await hypervisor.capabilities();
  const board = new ProgressBoard(world.clock);
  const listed = (): ReturnType<Machines["list"]> => machines.list();
  const offer = createOffers({ world, config, layout, store, capabilities, machines: listed });
  const shared = { world, journal, transport, layout, machines, store, key, ...data };
  const tools: MigrationTools = {
    ...shared,
    hooks,
    peerTimeout_ms: config.times.peerTimeout,
    retry_ms: config.times.retry,
    changed: ({ id }) => board.changed(id),
    cloud: config.cloud,
    endpoint: () => data.dataServer.endpoint,
    peer: (name) => peers.find(name),
    progress: (migration, progress) => board.report(migration, progress),
  };
  return {
    ...shared,
    config,
    board,
    peers,
    version,
    offer,
    appliances: openAppliances(world.files, layout.appliances),
    migrations: new Migrations(tools, offer),
    accelerator: capabilities.accelerators[0] ?? "none",
    started_ms: world.clock.now(),
    card: () => cardOf(cloud),
    fingerprint: cardFingerprint,
    transportState: () => "online",
    offerChanged: async () => await transport.announce(await offer()),
    shutdown: () => undefined,
  };
}

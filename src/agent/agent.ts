import { join } from "node:path";
import { reportOf, type World } from "#core";
import { createXmppTransport, type PeerCard, type XmppTransport } from "#federation";
import { createQemu } from "#hypervisor";
import { openRepository } from "#repository";
import { loadOrCreateDataIdentity, startDataServer } from "#transfer";
import { assemble, type Rooms } from "./assembly.ts";
import { cardOf, loadCloud, type Cloud } from "./cloud.ts";
import { createHandlers } from "./handlers/index.ts";
import { serveApi } from "./http.ts";
import { openJournal } from "./journal.ts";
import type { JournalHooks } from "./migrations/course.ts";
import { openPeers } from "./peers.ts";
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
  const { config, layout } = cloud;
  const rooms = await openRooms(world, cloud, options, closers);
  const { parts, ...life } = await assemble(world, rooms, options);
  const { promise: stopped, resolve: finish } = Promise.withResolvers<void>();
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopping ??= closers.run(world).finally(finish));
  const handlers = createHandlers({ ...parts, shutdown: () => void stop() });
  closers.add(life, (running) => running.stop());
  await life.start();
  const api = await serveApi({ handlers, socketPath: layout.socket, world });
  closers.add(api, (server) => server.close());
  return { cloud: config.cloud, socket: layout.socket, stop, stopped };
}

async function openRooms(
  world: World,
  cloud: Cloud,
  options: AgentOptions,
  closers: Closers,
): Promise<Rooms> {
  const { config, layout, key } = cloud;
  // First of all: its lock keeps a second agent out.
  const journal = openJournal(layout.journal);
  closers.add(journal, (open) => Promise.resolve(open.close()));
  const store = await openRepository(world, layout.repository);
  const hypervisor = createQemu(world, {
    probeCachePath: join(layout.root, "accelerator.json"),
    ...(options.accelerator === undefined ? {} : { accelerator: options.accelerator }),
  });
  const late: { xmpp?: Xmpp; transport?: XmppTransport } = {};
  const peers = await openPeers({
    world,
    directory: layout.peers,
    own: cardOf(cloud),
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
  return {
    config,
    layout,
    key,
    journal,
    store,
    hypervisor,
    peers,
    transport,
    ...(await openData(world, cloud, closers)),
    card: () => cardOf(cloud),
    transportState: () => (transport.online() ? "online" : "connecting"),
  };
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

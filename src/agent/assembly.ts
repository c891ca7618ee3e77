import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { reportOf, type World } from "#core";
import {
  cardFingerprint,
  type AgentKey,
  type FederationTransport,
  type PeerCard,
} from "#federation";
import type { Hypervisor } from "#hypervisor";
import type { ComponentStore } from "#repository";
import type { DataIdentity, DataServer } from "#transfer";
import { openAppliances } from "./appliances.ts";
import { hostResources, type Config } from "./config.ts";
import type { Parts } from "./handlers/parts.ts";
import type { HelpPolicy } from "./help/help-desk.ts";
import { RateCache } from "./help/rates.ts";
import { removeExportLeftovers } from "./exports.ts";
import { removeImportLeftovers } from "./imports.ts";
import type { Journal } from "./journal.ts";
import type { Layout } from "./layout.ts";
import { LoadWatch } from "./loads.ts";
import { Machines } from "./machines.ts";
import type { JournalHooks } from "./migrations/course.ts";
import { Migrations } from "./migrations/migrations.ts";
import { ProgressBoard } from "./migrations/progress.ts";
import { RatioCache } from "./migrations/ratios.ts";
import type { MigrationTools } from "./migrations/tools.ts";
import { Announcer, createOffers } from "./offers.ts";
import type { Peers } from "./peers.ts";
import { Selector } from "./selection.ts";
import { Signers } from "./signers.ts";
import { Upstream, type UpstreamTools } from "./upstream/upstream.ts";

/** The rooms of one cloud, open: what an agent is made of, whatever is behind the contracts. */
export interface Rooms {
  readonly config: Config;
  readonly layout: Layout;
  readonly key: AgentKey;
  readonly journal: Journal;
  readonly store: ComponentStore;
  readonly hypervisor: Hypervisor;
  readonly peers: Peers;
  readonly transport: FederationTransport;
  readonly dataServer: DataServer;
  readonly dataIdentity: DataIdentity;
  card(): PeerCard;
  transportState(): "online" | "connecting" | "offline";
}

export interface AssemblyOptions {
  readonly hooks: JournalHooks;
  /** Of Tessera, as package.json has it. */
  readonly version: string;
}

/** An agent put together, not yet running. */
export interface Assembly {
  readonly parts: Parts;
  /**
   * Adopts the machines that run, goes on with the migrations that the journal holds, and takes
   * part in the federation.
   */
  start(): Promise<void>;
  /** Ends all of that, and leaves the rooms open; machines run on. */
  stop(): Promise<void>;
}

export async function assemble(
  world: World,
  rooms: Rooms,
  options: AssemblyOptions,
): Promise<Assembly> {
  const { config, layout, store, hypervisor, transport, dataServer } = rooms;
  const capabilities = await hypervisor.capabilities();
  const announcer = new Announcer(world);
  const machines = machinesOf(world, rooms, () => announcer.changed());
  const board = new ProgressBoard(world.clock);
  const loads = new LoadWatch({
    world,
    cpus: hostResources(config).cpus,
    running: () => machines.processes(),
    offers: () => transport.peers().flatMap(({ offer }) => (offer === undefined ? [] : [offer])),
  });
  const offer = createOffers({
    world,
    config,
    layout,
    store,
    capabilities,
    machines: () => machines.list(),
    load: () => loads.load,
    incoming: () => migrations.incoming(),
  });
  const tools = toolsOf(world, rooms, options, { machines, board, announcer });
  const migrations = new Migrations(tools, offer);
  announcer.serve(async () => await transport.announce(await offer()));
  const { version } = options;
  const { peers } = rooms;
  const parts: Parts = {
    ...rooms,
    world,
    board,
    loads,
    peers,
    version,
    offer,
    machines,
    migrations,
    signers: tools.signers,
    ...(tools.upstream === undefined ? {} : { upstream: tools.upstream }),
    selector: new Selector(tools),
    appliances: openAppliances(world, layout.appliances),
    accelerator: capabilities.accelerators[0] ?? "none",
    started_ms: world.clock.now(),
    dataServer,
    fingerprint: cardFingerprint,
    offerChanged: () => announcer.announce(),
    shutdown: () => undefined,
  };
  return { parts, ...lifeOf(world, parts, loads, announcer) };
}

function lifeOf(
  world: World,
  parts: Parts,
  loads: LoadWatch,
  announcer: Announcer,
): Pick<Assembly, "start" | "stop"> {
  const { machines, migrations, transport } = parts;
  return {
    start: async () => {
      await machines.adoptAll();
      await removeImportLeftovers(parts);
      await removeExportLeftovers(parts);
      await migrations.recover();
      await transport.start((from, message) => migrations.handle(from, message));
      loads.start();
      announcer.start();
    },
    stop: async () => {
      announcer.stop();
      loads.stop();
      const ends = [() => migrations.stop(), () => transport.stop(), () => machines.detach()];
      for (const end of ends) {
        await end().catch((error: unknown) => {
          world.log.log("error", "closing failed", { ...reportOf(error) });
        });
      }
    },
  };
}

function machinesOf(world: World, rooms: Rooms, changed: () => void): Machines {
  const { config, layout, store, hypervisor } = rooms;
  const { stopTimeout, bootTimeout } = config.times;
  return new Machines({
    world,
    layout,
    store,
    hypervisor,
    ...sharedOf(config),
    stopTimeout_ms: stopTimeout,
    bootTimeout_ms: bootTimeout,
    changed,
  });
}

function toolsOf(
  world: World,
  rooms: Rooms,
  { hooks }: AssemblyOptions,
  {
    machines,
    board,
    announcer,
  }: {
    readonly machines: Machines;
    readonly board: ProgressBoard;
    readonly announcer: Announcer;
  },
): MigrationTools {
  const { config, layout, key, journal, store, peers, transport, dataServer, dataIdentity } = rooms;
  const rates = new RateCache(world, join(layout.cache, "rates.json"));
  const signers = new Signers(world, layout.signers, config.signatures.required);
  return {
    hypervisor: rooms.hypervisor,
    world,
    journal,
    transport,
    layout,
    machines,
    store,
    key,
    dataServer,
    dataIdentity,
    hooks,
    freeCores,
    ratios: new RatioCache(world, join(layout.cache, "ratios.json")),
    rates,
    help: helpPolicyOf(config),
    signers,
    ...upstreamOf(config, { world, store, signers, rates, root: layout.root }),
    ...sharedOf(config),
    diskFormat: config.storage.format,
    lineageBytesMax: config.lineage.keep ? config.lineage.bytesMax : 0,
    peerTimeout_ms: config.times.peerTimeout,
    retry_ms: config.times.retry,
    changed: (record) => {
      board.changed(record.id);
      announcer.changed();
    },
    cloud: config.cloud,
    endpoint: () => dataServer.endpoint,
    peer: (name) => peers.find(name),
    progress: (migration, progress) => board.report(migration, progress),
    own: (migration, component, blobs) => board.own(migration, component, blobs),
  };
}

function upstreamOf({ upstream }: Config, tools: UpstreamTools): { readonly upstream?: Upstream } {
  return upstream === undefined ? {} : { upstream: new Upstream(upstream, tools) };
}

function sharedOf({ storage }: Config): { readonly sharedDirectory?: string } {
  return storage.shared === undefined ? {} : { sharedDirectory: storage.shared };
}

function helpPolicyOf({ help, link, egressPricePerGB }: Config): HelpPolicy {
  return {
    helps: help.enabled,
    sessionsMax: help.sessions,
    ...(help.rate === undefined ? {} : { bitsPerSecondMax: help.rate }),
    time_ms: help.time,
    ...(link === undefined ? {} : { linkRate: link }),
    pricePerGB: egressPricePerGB,
  };
}

/** By the load of the last minute; at least half of one, as every process gets its share. */
function freeCores(): number {
  const [load = 0] = loadavg();
  return Math.max(0.5, availableParallelism() - load);
}

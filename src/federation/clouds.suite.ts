/** Clouds with real servers on the loopback, for tests. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Offer, World } from "#core";
import { createCertificates, startServer, type EmbeddedServer, type ServerPeer } from "#xmpp";
import type { AgentKey, FederationTransport, PeerCard } from "./contract.ts";
import { loadOrCreateAgentKey } from "./key.ts";
import { createXmppTransport, type Timing, type XmppTransport } from "./xmpp-transport.ts";

const LOOPBACK = { host: "127.0.0.1", port: 0 };
export const FAST: Timing = {
  refresh_ms: { least: 400, most: 600 },
  backOff_ms: { first: 50, longest: 400 },
};

export interface TestCloud {
  readonly name: string;
  server: EmbeddedServer;
  readonly key: AgentKey;
  readonly card: PeerCard;
  /** Where its certificates and their keys are. */
  readonly pki: string;
  /** Changed by tests; the transport sees it at once, the server after `admit`. */
  peers: PeerCard[];
  transport(options?: { key?: AgentKey }): XmppTransport;
  admit(): Promise<void>;
  /** Ends the server without a farewell and starts it again, with the same peers. */
  restart(): Promise<void>;
}

export interface TestClouds {
  readonly clouds: readonly TestCloud[];
  readonly room: string;
  cloud(name: string): TestCloud;
  stop(): Promise<void>;
}

export function serverPeer(card: PeerCard): ServerPeer {
  return {
    domain: card.domain,
    ...(card.xmppCa === undefined ? {} : { ca: card.xmppCa }),
    ...(card.xmppAddress === undefined ? {} : { address: card.xmppAddress }),
  };
}

/** Starts a server for every name; the first hosts the room, and all know each other. */
export async function startClouds(world: World, names: readonly string[]): Promise<TestClouds> {
  const root = await mkdtemp(join(tmpdir(), "tessera-federation-"));
  const room = `federation@rooms.${names[0] ?? ""}.example`;
  const clouds = await Promise.all(
    names.map((name, index) => startCloud(world, join(root, name), name, room, index === 0)),
  );
  for (const cloud of clouds) {
    cloud.peers = clouds.filter((other) => other !== cloud).map(({ card }) => card);
  }
  await Promise.all(clouds.map((cloud) => cloud.admit()));
  return {
    clouds,
    room,
    cloud: (name) => {
      const found = clouds.find((cloud) => cloud.name === name);
      if (found === undefined) throw new Error(`no cloud ${name}`);
      return found;
    },
    stop: async () => {
      await Promise.all(clouds.map(({ server }) => server.stop()));
      await rm(root, { recursive: true, force: true });
    },
  };
}

async function startCloud(
  world: World,
  directory: string,
  name: string,
  room: string,
  hostsRoom: boolean,
): Promise<TestCloud> {
  const domain = `${name}.example`;
  const certificates = await createCertificates(world, join(directory, "pki"), domain);
  const start = (peers: readonly PeerCard[]): Promise<EmbeddedServer> =>
    startServer(world, {
      directory: join(directory, "xmpp"),
      certificates,
      hostsRooms: hostsRoom,
      c2s: LOOPBACK,
      s2s: LOOPBACK,
      peers: peers.map(serverPeer),
    });
  const server = await start([]);
  const key = await loadOrCreateAgentKey(world, join(directory, "agent.pem"));
  const { account, ca, c2s: address, s2s: xmppAddress } = server;
  const card = { cloud: name, domain, jid: account.jid, agentKey: key.publicKey, xmppCa: ca };
  const cloud: TestCloud = {
    name,
    server,
    key,
    card: { ...card, xmppAddress },
    pki: join(directory, "pki"),
    peers: [],
    transport: (options = {}) =>
      createXmppTransport(world, {
        cloud: name,
        key: options.key ?? key,
        account,
        address,
        ca,
        room,
        hostsRoom,
        peers: () => cloud.peers,
        timing: FAST,
      }),
    admit: () => cloud.server.setPeers(cloud.peers.map(serverPeer)),
    restart: async () => {
      world.processes.kill(cloud.server.identity, "SIGKILL");
      await cloud.server.exit;
      cloud.server = await start(cloud.peers);
    },
  };
  return cloud;
}

/** Resolves when `holds` does; it is asked again at every change of the peers. */
export function until(
  transport: FederationTransport,
  what: string,
  holds: () => boolean,
  timeout_ms = 15_000,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`never: ${what}`)), timeout_ms);
  const check = (): void => {
    if (holds()) resolve();
  };
  const unsubscribe = transport.onPeers(check);
  check();
  return promise.finally(() => {
    clearTimeout(timer);
    unsubscribe();
  });
}

export function sees(transport: FederationTransport, cloud: string): Promise<void> {
  const there = (): boolean => transport.peers().some((peer) => peer.cloud === cloud);
  return until(transport, `${transport.cloud} sees ${cloud}`, there);
}

export function misses(transport: FederationTransport, cloud: string): Promise<void> {
  const absent = (): boolean => transport.peers().every((peer) => peer.cloud !== cloud);
  return until(transport, `${transport.cloud} misses ${cloud}`, absent);
}

export function testOffer(cloud: string, seq: number, now_ms = Date.now()): Offer {
  return {
    cloud,
    region: "test",
    cpusFree: 2,
    memoryFreeBytes: 2 ** 30,
    storageFreeBytes: 2 ** 34,
    accelerators: ["tcg"],
    cpuModels: ["qemu64"],
    formats: ["raw"],
    architectures: ["amd64"],
    egressPricePerGB: 0.05,
    receives: true,
    repository: { components: 1, heads: ["0123456789abcdef"], complete: true },
    seq,
    expires_ms: now_ms + 60_000,
  };
}

import { join, resolve } from "node:path";
import { hasCode, reportOf, type World } from "#core";
import type { PeerCard } from "#federation";
import {
  roomsDomainOf,
  startServer,
  type Account,
  type EmbeddedServer,
  type ServerOptions,
  type ServerPeer,
  type StreamAddress,
} from "#xmpp";
import type { Cloud } from "./cloud.ts";

const PASSWORD_BYTES_MAX = 4096;
const RESTART_MS = 1000;
/** How long a server that was ours may take to give its ports back. */
const PORTS_MS = 15_000;

/** The XMPP server that this cloud's agent logs in at: its own child, or the site's. */
export interface Xmpp {
  readonly account: Account;
  readonly address: StreamAddress;
  readonly ca?: string;
  readonly hostsRoom: boolean;
  setPeers(cards: readonly PeerCard[]): Promise<void>;
  stop(): Promise<void>;
}

export async function startXmpp(
  world: World,
  cloud: Cloud,
  cards: readonly PeerCard[],
): Promise<Xmpp> {
  if (cloud.config.xmpp.server === "external") return await externalServer(world, cloud);
  return await embeddedServer(world, cloud, cards);
}

async function externalServer(world: World, { config, layout, xmppCa }: Cloud): Promise<Xmpp> {
  const { xmpp, domain } = config;
  if (xmpp.server !== "external") throw new Error("not external");
  const path = resolve(layout.root, xmpp.passwordFile);
  const password = Buffer.from(await world.files.readFile(path, PASSWORD_BYTES_MAX));
  return {
    account: { jid: `agent@${domain}`, password: password.toString("utf8").trim() },
    address: { host: xmpp.host, port: xmpp.port },
    ...(xmppCa === undefined ? {} : { ca: xmppCa }),
    hostsRoom: isOwnRoom(config),
    // A site's own server decides by its own configuration whom it talks to.
    setPeers: () => Promise.resolve(),
    stop: () => Promise.resolve(),
  };
}

function isOwnRoom({ room, domain }: Cloud["config"]): boolean {
  return room.endsWith(`@${roomsDomainOf(domain)}`);
}

function serverPeer({ domain, xmppCa, xmppAddress }: PeerCard): ServerPeer {
  return {
    domain,
    ...(xmppCa === undefined ? {} : { ca: xmppCa }),
    ...(xmppAddress === undefined ? {} : { address: xmppAddress }),
  };
}

async function embeddedServer(
  world: World,
  { config, layout, certificates }: Cloud,
  cards: readonly PeerCard[],
): Promise<Xmpp> {
  const { xmpp } = config;
  if (xmpp.server !== "embedded" || certificates === undefined) throw new Error("not embedded");
  const stopping = new AbortController();
  let peers = cards.map(serverPeer);
  const options = (): ServerOptions => ({
    directory: join(layout.xmpp, "prosody"),
    certificates,
    hostsRooms: isOwnRoom(config),
    c2s: { host: "127.0.0.1", port: xmpp.clientPort },
    s2s: { host: xmpp.host, port: xmpp.serverPort },
    peers,
  });
  let server = await startPatiently(world, options());
  const watched = keepRunning(world, stopping.signal, {
    exit: () => server.exit,
    restart: async () => void (server = await startPatiently(world, options())),
  });
  return {
    account: server.account,
    address: server.c2s,
    ca: server.ca,
    hostsRoom: isOwnRoom(config),
    setPeers: async (next) => {
      peers = next.map(serverPeer);
      await server.setPeers(peers);
    },
    stop: async () => {
      stopping.abort();
      await server.stop();
      await watched;
    },
  };
}

/** After a crash of ours the former server may still hold the ports for a moment. */
async function startPatiently(world: World, options: ServerOptions): Promise<EmbeddedServer> {
  const deadline_ms = world.clock.monotonic() + PORTS_MS;
  for (;;) {
    try {
      return await startServer(world, options);
    } catch (error) {
      const waits = hasCode(error, "xmpp.port-taken") && world.clock.monotonic() < deadline_ms;
      if (!waits) throw error;
      await world.clock.sleep(250);
    }
  }
}

interface Watched {
  exit(): Promise<number>;
  restart(): Promise<void>;
}

/** Starts the server again when it dies under us; the client finds it again by itself. */
async function keepRunning(world: World, signal: AbortSignal, watched: Watched): Promise<void> {
  while (!signal.aborted) {
    await watched.exit();
    while (!signal.aborted) {
      try {
        await world.clock.sleep(RESTART_MS, signal).catch(() => undefined);
        if (signal.aborted) return;
        world.log.log("warn", "the XMPP server ended; starting it again");
        await watched.restart();
        break;
      } catch (error) {
        world.log.log("error", "the XMPP server does not start", { ...reportOf(error) });
      }
    }
  }
}

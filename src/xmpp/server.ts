import { join } from "node:path";
import * as z from "zod";
import { TesseraError, type ProcessIdentity, type StartedProcess, type World } from "#core";
import { roomsDomainOf, type Certificates } from "./certificates.ts";
import { requireBareJid } from "./jid.ts";
import {
  prepareDirectory,
  serverUser,
  writePeers,
  type ServerPeer,
  type SystemUser,
} from "./server-directory.ts";
import type { ServerConfig } from "./server-config.ts";
import { loadState } from "./server-state.ts";
import type { Account } from "./session.ts";
import type { StreamAddress } from "./stream.ts";

export interface ServerOptions {
  /** Everything of this server goes below; made when missing. */
  readonly directory: string;
  readonly certificates: Certificates;
  /** Does this cloud host the federation's room? */
  readonly hostsRooms: boolean;
  /** Local part of the agent's address; `agent` when absent. */
  readonly user?: string;
  /** Where to listen; port 0 chooses a free one and keeps it. */
  readonly c2s: StreamAddress;
  readonly s2s: StreamAddress;
  readonly peers: readonly ServerPeer[];
  /** Default 20 s. */
  readonly start_ms?: number;
}

/** A running Prosody of our own. It ends when this process ends. */
export interface EmbeddedServer {
  readonly domain: string;
  readonly roomsDomain: string | undefined;
  readonly account: Account;
  /** Direct TLS, for {@link XmppClient}. */
  readonly c2s: StreamAddress;
  /** For peers' cards; the host may have to be replaced by a public one. */
  readonly s2s: StreamAddress;
  readonly ca: string;
  readonly identity: ProcessIdentity;
  /** Resolves with the exit code when the process ends for whatever reason. */
  readonly exit: Promise<number>;
  /** Replaces the peers without a restart; resolves when they are in force. */
  setPeers(peers: readonly ServerPeer[]): Promise<void>;
  stop(): Promise<void>;
}

const START_MS = 20_000;
const STOP_MS = 5_000;
const POLL_MS = 10;
const STATUS_BYTES_MAX = 64 * 1024;
const PORT_ATTEMPTS = 4;

/** Everything about one attempt to run the server that stays the same while it runs. */
interface Run {
  readonly world: World;
  /** Prosody's own directory. */
  readonly directory: string;
  readonly config: Omit<ServerConfig, "publicAuthorities">;
  readonly ca: string;
  readonly user: SystemUser | undefined;
  readonly start_ms: number;
}

/**
 * Starts Prosody with a generated configuration, and resolves when its ports are open and the
 * agent's account exists. A port that was chosen by us and is taken meanwhile is chosen anew.
 *
 * @throws `xmpp.server-failed`, `xmpp.port-taken`, `xmpp.ca-unconstrained`,
 * `xmpp.domains-overlap`, `system.program-missing`
 */
export async function startServer(world: World, options: ServerOptions): Promise<EmbeddedServer> {
  await world.files.makeDirectory(options.directory, 0o700);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await attemptStart(world, options, attempt > 1);
    } catch (error) {
      const chosen = options.c2s.port === 0 || options.s2s.port === 0;
      const taken = error instanceof TesseraError && error.code === "xmpp.port-taken";
      if (!taken || !chosen || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

async function attemptStart(
  world: World,
  options: ServerOptions,
  newPorts: boolean,
): Promise<EmbeddedServer> {
  const { domain, ca } = options.certificates;
  const state = await loadState(world, options, newPorts);
  const account = {
    jid: requireBareJid(`${options.user ?? "agent"}@${domain}`),
    password: state.password,
  };
  const config = {
    domain,
    agent: account.jid,
    c2s: { host: options.c2s.host, port: state.c2sPort },
    s2s: { host: options.s2s.host, port: state.s2sPort },
    ...(options.hostsRooms ? { roomsDomain: roomsDomainOf(domain) } : {}),
  };
  const user = await serverUser(world);
  const directory = join(options.directory, "server");
  const run = { world, directory, config, ca, user, start_ms: options.start_ms ?? START_MS };
  const generation = await writePeers(world, directory, config, ca, options.peers);
  await prepareDirectory(world, directory, { account, user, certificates: options.certificates });
  const started = await launch(run, join(options.directory, "prosody.log"));
  try {
    await applied(run, started, generation);
  } catch (error) {
    await end(world, started);
    throw error;
  }
  return running(run, account, started);
}

function launch(run: Run, logFile: string): Promise<StartedProcess> {
  const args = ["--config", "./prosody.cfg.lua", "-F"];
  const { user, directory } = run;
  const life = "own";
  const options = { logFile, directory, life, ...(user === undefined ? {} : { user }) } as const;
  return run.world.processes.start("prosody", args, options);
}

function running(run: Run, account: Account, started: StartedProcess): EmbeddedServer {
  const { world, directory, config, ca } = run;
  let last: Promise<void> = Promise.resolve();
  const replace = async (peers: readonly ServerPeer[]): Promise<void> => {
    const generation = await writePeers(world, directory, config, ca, peers);
    world.processes.kill(started.identity, "SIGHUP");
    await applied(run, started, generation);
  };
  return {
    domain: config.domain,
    roomsDomain: config.roomsDomain,
    account,
    c2s: config.c2s,
    s2s: config.s2s,
    ca,
    identity: started.identity,
    exit: started.exit,
    setPeers: (peers) => {
      const next = last.then(() => replace(peers));
      last = next.catch(() => {});
      return next;
    },
    stop: () => end(world, started),
  };
}

/** Waits until the server reports that it has applied this generation of the peers. */
async function applied(run: Run, started: StartedProcess, generation: string): Promise<void> {
  const { clock } = run.world;
  const deadline_ms = clock.monotonic() + run.start_ms;
  while (clock.monotonic() < deadline_ms) {
    const status = await readStatus(run);
    if (status?.generation === generation) {
      requireOpen(status.closed);
      return;
    }
    if (!run.world.processes.alive(started.identity)) throw failed(run, "it ended");
    await clock.sleep(POLL_MS);
  }
  throw failed(run, "it did not answer in time");
}

const statusSchema = z.object({ generation: z.string(), closed: z.string() });

async function readStatus(run: Run): Promise<z.infer<typeof statusSchema> | undefined> {
  const path = join(run.directory, "status.json");
  if ((await run.world.files.status(path)) === undefined) return undefined;
  const bytes = await run.world.files.readFile(path, STATUS_BYTES_MAX);
  return statusSchema.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
}

function requireOpen(closed: string): void {
  if (closed === "") return;
  throw new TesseraError("environment", "xmpp.port-taken", `${closed} cannot be listened on`, {
    subject: closed,
    remedy: "end the program that holds the port, or configure another",
  });
}

function failed(run: Run, reason: string): TesseraError {
  const { domain } = run.config;
  const message = `the XMPP server of ${domain} does not run: ${reason}`;
  return new TesseraError("environment", "xmpp.server-failed", message, {
    subject: domain,
    remedy: `look at ${join(run.directory, "..", "prosody.log")}`,
  });
}

async function end(world: World, started: StartedProcess): Promise<void> {
  const ended = new AbortController();
  const exit = started.exit.then(() => ended.abort());
  world.processes.kill(started.identity, "SIGTERM");
  await world.clock.sleep(STOP_MS, ended.signal).then(
    () => world.processes.kill(started.identity, "SIGKILL"),
    () => {},
  );
  await exit;
}

/**
 * Two real clouds on this machine: agents as processes of their own, each with its XMPP server and
 * its hypervisor, in a temporary directory that is gone afterwards, as are all their processes.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readdirSync } from "node:fs";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { parse, stringify } from "yaml";
import type { Input, OperationName, Output } from "#api";
import { connectAgent } from "#cli";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { addTinySystem } from "./tiny-components.ts";

const AGENT = resolve(import.meta.dirname, "../../src/agent/main.ts");
/** Only a test that fails waits so long: other work on the machine must not make it fail. */
const PATIENCE_MS = 240_000;
const START_MS = 120_000;
const POLL_MS = 50;
const LOG_LINES = 40;

const run = promisify(execFile);

/** What must never be, not even for a moment: no waiting heals it. */
export class Violation extends Error {}

/**
 * Asks again until the answer is not undefined; the deadline's error says what was awaited. An
 * error is taken for "not yet", unless it is a {@link Violation}.
 */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  timeout_ms = PATIENCE_MS,
): Promise<T> {
  const deadline_ms = performance.now() + timeout_ms;
  let last: unknown;
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      if (error instanceof Violation) throw error;
      last = error;
    }
    if (performance.now() > deadline_ms) {
      throw new Error(`not within ${timeout_ms} ms: ${what}`, { cause: last });
    }
    await pause(POLL_MS);
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  for (const server of servers) await once(server.listen(0, "127.0.0.1"), "listening");
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  for (const server of servers) await once(server.close(), "close");
  return ports;
}

export interface ProcessSeen {
  readonly pid: number;
  readonly command: string;
}

/** Living processes whose command line names this text. */
export function processesNaming(text: string): ProcessSeen[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
        return command.includes(text) ? [{ pid: Number(name), command }] : [];
      } catch {
        return [];
      }
    });
}

/** One cloud: its directory, and its agent while that runs. */
export class TestCloud {
  readonly name: string;
  readonly root: string;
  readonly dataPort: number;
  readonly #faultFile: string;
  #agent: ChildProcess | undefined;

  constructor(base: string, name: string, dataPort: number) {
    this.name = name;
    this.root = join(base, name);
    this.dataPort = dataPort;
    this.#faultFile = join(base, `${name}.fault`);
  }

  get logFile(): string {
    return `${this.root}.log`;
  }

  /** The last lines of the agent's log. */
  log(): string {
    const lines = existsSync(this.logFile) ? readFileSync(this.logFile, "utf8").split("\n") : [];
    return lines.slice(-LOG_LINES).join("\n");
  }

  async call<N extends OperationName>(name: N, input: Input<N>): Promise<Output<N>> {
    const signal = AbortSignal.timeout(START_MS);
    return await connectAgent(join(this.root, "agent.sock")).call(name, input, { signal });
  }

  /** Sets the faults that the agent has from now on, in the words of `src/agent/faults.ts`. */
  faults(...lines: readonly string[]): void {
    const beside = `${this.#faultFile}.new`;
    writeFileSync(beside, lines.join("\n"));
    renameSync(beside, this.#faultFile);
  }

  /** Starts the agent and waits until it answers. */
  async start(options: { readonly prefix?: readonly string[] } = {}): Promise<void> {
    const log = openSync(this.logFile, "a");
    const command = [...(options.prefix ?? []), process.execPath, AGENT, "run", this.root];
    const child = spawn(command[0] ?? "", command.slice(1), {
      stdio: ["ignore", "ignore", log],
      env: {
        ...process.env,
        TESSERA_FAULT: `file:${this.#faultFile}`,
        TESSERA_ACCELERATOR: "tcg",
        TESSERA_LOG: "debug",
      },
    });
    closeSync(log);
    this.#agent = child;
    await until(
      `agent ${this.name} answers`,
      async () => {
        if (child.exitCode !== null) throw new Error(`it exited with ${child.exitCode}`);
        return await this.call("agent.info", {});
      },
      START_MS,
    );
  }

  get runs(): boolean {
    const agent = this.#agent;
    return agent !== undefined && agent.exitCode === null && agent.signalCode === null;
  }

  /** Resolves when the agent has died of itself, as a fault asks. */
  async died(): Promise<void> {
    await until(`agent ${this.name} is dead`, () => (this.runs ? undefined : true));
  }

  async kill(): Promise<void> {
    if (this.runs) this.#agent?.kill("SIGKILL");
    await this.died();
  }

  async stop(): Promise<void> {
    if (this.runs) this.#agent?.kill("SIGTERM");
    await until(`agent ${this.name} has stopped`, () => (this.runs ? undefined : true), 30_000);
  }

  /** Changes `cloud.yaml`; the agent reads it when it starts. */
  configure(change: (config: Record<string, unknown>) => void): void {
    const path = join(this.root, "cloud.yaml");
    const config = parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    change(config);
    writeFileSync(path, stringify(config));
  }

  /** QEMU processes of this cloud that run a machine. */
  guests(uuid: string): ProcessSeen[] {
    return processesNaming(`${this.root}/`).filter(
      ({ command }) => command.includes("qemu-system") && command.includes(uuid),
    );
  }
}

export interface FederationOptions {
  /** Of `cloud.yaml`, at both clouds. */
  readonly times?: Readonly<Record<string, string>>;
  /** Called for each cloud before its agent starts for the first time. */
  readonly prepare?: (cloud: TestCloud) => Promise<void>;
}

export interface Federation {
  readonly base: string;
  readonly a: TestCloud;
  readonly b: TestCloud;
  /** Ends everything and proves that no process is left. */
  close(): Promise<void>;
}

const agentCommand = async (...args: readonly string[]): Promise<string> =>
  (await run(process.execPath, [AGENT, ...args])).stdout;

async function initialise(cloud: TestCloud, room: string, ports: readonly number[]) {
  const [client = 0, server = 0] = ports;
  const options = {
    name: cloud.name,
    domain: `${cloud.name}.test`,
    room,
    host: "127.0.0.1",
    advertise: "127.0.0.1",
    "client-port": client,
    "server-port": server,
    "data-port": cloud.dataPort,
    cpus: 4,
    memory: "2G",
  };
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  await agentCommand("init", cloud.root, ...flags);
}

async function trustEachOther(base: string, clouds: readonly TestCloud[]): Promise<void> {
  for (const cloud of clouds) {
    writeFileSync(join(base, `${cloud.name}.card`), await agentCommand("card", cloud.root));
  }
  for (const cloud of clouds) {
    const others = clouds.filter((other) => other !== cloud);
    for (const { name } of others) {
      await agentCommand("trust", cloud.root, join(base, `${name}.card`));
    }
  }
}

/** Waits until each cloud sees the other's offer. */
export async function meet(a: TestCloud, b: TestCloud): Promise<void> {
  const sees = (one: TestCloud, other: TestCloud): Promise<unknown> =>
    until(`${one.name} sees ${other.name}`, async () => {
      const { clouds } = await one.call("cloud.list", {});
      return clouds.find(({ cloud, offer }) => cloud === other.name && offer !== undefined);
    });
  await Promise.all([sees(a, b), sees(b, a)]);
}

/** Two clouds that trust each other; the first one holds `tiny-kernel` and `tiny-os`. */
export async function startFederation(options: FederationOptions = {}): Promise<Federation> {
  const base = mkdtempSync(join(tmpdir(), "tessera-faults-"));
  const ports = await freePorts(6);
  const a = new TestCloud(base, "alpha", ports[4] ?? 0);
  const b = new TestCloud(base, "beta", ports[5] ?? 0);
  const federation = { base, a, b, close: () => close(base, [a, b]) };
  try {
    const room = "federation@rooms.alpha.test";
    await Promise.all([
      initialise(a, room, ports.slice(0, 2)),
      initialise(b, room, ports.slice(2, 4)),
    ]);
    await trustEachOther(base, [a, b]);
    for (const cloud of [a, b]) {
      cloud.configure((config) => {
        config["times"] = { peerTimeout: "60s", stopTimeout: "30s", retry: "200ms" };
        Object.assign(config["times"] as object, options.times);
      });
      await options.prepare?.(cloud);
    }
    await addTinySystem(await openRepository(realWorld(), join(a.root, "repository")));
    await Promise.all([a.start(), b.start()]);
    await meet(a, b);
    return federation;
  } catch (error) {
    await federation.close().catch(() => undefined);
    throw new Error(`no federation\n${a.log()}\n${b.log()}`, { cause: error });
  }
}

async function close(base: string, clouds: readonly TestCloud[]): Promise<void> {
  try {
    await Promise.all(clouds.map((cloud) => cloud.stop().catch(() => cloud.kill())));
    // Machines outlive their agents by design; all others must be gone without our help.
    const left = (): ProcessSeen[] => processesNaming(`${base}/`);
    for (const { pid, command } of left()) {
      if (command.includes("qemu-system")) process.kill(pid, "SIGKILL");
    }
    await until("no process is left", () => (left().length === 0 ? true : undefined), 20_000).catch(
      (cause: unknown) => {
        const found = left();
        for (const { pid } of found) process.kill(pid, "SIGKILL");
        const text = found.map(({ command }) => command).join("\n");
        throw new Error(`processes were left: ${text}`, { cause });
      },
    );
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

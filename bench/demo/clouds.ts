/** The demo's two clouds and the throttled link between them. */
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connectAgent, type AgentClient } from "#cli";
import { freePorts, endGuests, Running } from "./processes.ts";
import { run } from "./screen.ts";

const REPOSITORY_ROOT = resolve(import.meta.dirname, "../..");
const AGENT = join(REPOSITORY_ROOT, "src", "agent", "main.ts");
const LINK = join(import.meta.dirname, "link.ts");
export const DEMO = join(REPOSITORY_ROOT, "build", "demo");
const START_MS = 60_000;

export interface DemoCloud {
  readonly name: string;
  readonly directory: string;
  readonly api: AgentClient;
}

export interface Demo {
  readonly messina: DemoCloud;
  readonly inquadro: DemoCloud;
  readonly running: Running;
  /** Bytes that the link has carried between the clouds, both directions. */
  linkBytes(): Promise<number>;
}

/** Ends what an earlier demo left running. */
export async function endDemo(): Promise<void> {
  await new Running(DEMO).end();
  for (const name of ["messina", "inquadro"]) endGuests(join(DEMO, name));
}

/** Removes an earlier demo's clouds, but keeps what `messina` had built. */
function clear(): boolean {
  const kept = join(DEMO, "kept");
  const messina = join(DEMO, "messina");
  mkdirSync(kept, { recursive: true });
  for (const part of ["repository", "cache"]) {
    if (!existsSync(join(messina, part))) continue;
    rmSync(join(kept, part), { recursive: true, force: true });
    renameSync(join(messina, part), join(kept, part));
  }
  for (const name of ["messina", "inquadro"]) {
    rmSync(join(DEMO, name), { recursive: true, force: true });
  }
  return existsSync(join(kept, "repository"));
}

function restoreBuilt(): void {
  for (const part of ["repository", "cache"]) {
    const kept = join(DEMO, "kept", part);
    if (existsSync(kept)) renameSync(kept, join(DEMO, "messina", part));
  }
}

interface Ports {
  readonly client: number;
  readonly server: number;
  readonly data: number;
  /** Where the other cloud finds the data port: the link. */
  readonly relay: number;
}

async function initCloud(name: string, ports: Ports, rate: string): Promise<string> {
  const directory = join(DEMO, name);
  const options = {
    name,
    domain: `${name}.example`,
    room: "federation@rooms.messina.example",
    host: "127.0.0.1",
    advertise: "127.0.0.1",
    "client-port": ports.client,
    "server-port": ports.server,
    "data-port": ports.data,
    "advertise-data-port": ports.relay,
    link: rate,
  };
  const flags = Object.entries(options).flatMap(([key, value]) => [`--${key}`, String(value)]);
  await run(process.execPath, [AGENT, "init", directory, ...flags]);
  return directory;
}

async function exchangeCards(directories: readonly string[]): Promise<void> {
  for (const from of directories) {
    const file = join(DEMO, "card.json");
    await run("sh", ["-c", '"$0" "$1" card "$2" > "$3"', process.execPath, AGENT, from, file]);
    for (const to of directories) {
      if (to !== from) await run(process.execPath, [AGENT, "trust", to, file]);
    }
    rmSync(file);
  }
}

async function startAgent(running: Running, name: string, directory: string): Promise<DemoCloud> {
  const log = join(directory, "agent.log");
  const identity = running.start(process.execPath, [AGENT, "run", directory], log);
  const api = connectAgent(join(directory, "agent.sock"));
  const ready = async (): Promise<boolean> => {
    if (!running.alive(identity)) throw new Error(`the agent of ${name} ended: see ${log}`);
    return await api.call("agent.info", {}).then(
      () => true,
      () => false,
    );
  };
  await until(`the agent of ${name} answers`, ready);
  return { name, directory, api };
}

export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + START_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(50);
  }
}

/** Fresh clouds that know each other, the link between them, and both agents in the room. */
export async function startClouds(rate: string): Promise<Demo & { readonly reused: boolean }> {
  await endDemo();
  const reused = clear();
  const running = new Running(DEMO);
  const ports = await freePorts(9);
  const port = (index: number): number => ports[index] ?? 0;
  const of = (base: number): Ports => ({
    client: port(base),
    server: port(base + 1),
    data: port(base + 2),
    relay: port(base + 3),
  });
  const counts = port(8);
  const directories = [
    await initCloud("messina", of(0), rate),
    await initCloud("inquadro", of(4), rate),
  ];
  restoreBuilt();
  await exchangeCards(directories);
  const pairs = [of(0), of(4)].map(({ relay, data }) => `${relay}:${data}`);
  running.start(process.execPath, [LINK, rate, String(counts), ...pairs], join(DEMO, "link.log"));
  const messina = await startAgent(running, "messina", join(DEMO, "messina"));
  const inquadro = await startAgent(running, "inquadro", join(DEMO, "inquadro"));
  for (const cloud of [messina, inquadro]) {
    const meets = async (): Promise<boolean> => {
      const { clouds } = await cloud.api.call("cloud.list", {});
      return clouds.some(({ offer }) => offer !== undefined);
    };
    await until(`${cloud.name} sees the other cloud`, meets);
  }
  return { messina, inquadro, running, reused, linkBytes: () => linkBytes(counts) };
}

async function linkBytes(port: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/`);
  const relays = (await response.json()) as { up: number; down: number }[];
  return relays.reduce((sum, { up, down }) => sum + up + down, 0);
}

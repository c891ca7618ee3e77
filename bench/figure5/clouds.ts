/** Two real agents, each in a network namespace of its own, and the shaped link between them. */
import { spawn, type ChildProcess } from "node:child_process";
import { cpSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { connectAgent, type AgentClient } from "#cli";
import { run } from "../demo/screen.ts";
import { ADDRESSES, Link, type Side } from "../transfer/link.ts";
import type { Held } from "./legs.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const AGENT = join(ROOT, "src", "agent", "main.ts");
const WEB = join(import.meta.dirname, "web.ts");
/** Clouds, points and figures: in one directory, as paths of sockets must be short. */
export const SCENE = join(ROOT, "build", "figure5");
export const WEB_PORT = 8080;
const START_MS = 120_000;

interface WebEvent {
  readonly event: string;
  readonly name?: string;
  readonly offset?: number;
  readonly bytes?: number;
  readonly right?: boolean;
}

/** The web site as one cloud's machines see it. */
export class Web {
  readonly #child: ChildProcess;
  readonly #seen: WebEvent[] = [];
  #changed = Promise.withResolvers<void>();

  constructor(link: Link, side: Side, sizeBytes: number) {
    const args = [WEB, String(WEB_PORT), String(sizeBytes)];
    this.#child = spawn(...link.command(side, process.execPath, args), {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error("the web server has no output");
    createInterface({ input: stdout }).on("line", (line) => {
      this.#seen.push(JSON.parse(line) as WebEvent);
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    });
  }

  limit(bytes: number): void {
    this.#child.stdin?.write(`limit ${bytes}\n`);
  }

  /** How many events were told so far. */
  get told(): number {
    return this.#seen.length;
  }

  /** The first event of that kind about a file after the first `after` events, now or later. */
  async event(event: string, name?: string, after = 0): Promise<WebEvent> {
    for (;;) {
      const later = this.#seen.slice(after);
      const found = later.find((seen) => seen.event === event && seen.name === name);
      if (found !== undefined) return found;
      await this.#changed.promise;
    }
  }

  /** Resolves once the file's reader waits at `bytes`. */
  async pausedAt(bytes: number, name: string): Promise<void> {
    for (let after = 0; ; after += 1) {
      const event = await this.event("paused", name, after);
      if (event.bytes === bytes) return;
    }
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }
}

export interface FigureCloud {
  readonly name: string;
  readonly side: Side;
  readonly directory: string;
  readonly api: AgentClient;
  readonly web: Web;
}

export interface Scene {
  readonly link: Link;
  readonly bitsPerSecond: number;
  readonly messina: FigureCloud;
  readonly inquadro: FigureCloud;
}

async function init(name: string, side: Side, rate: string): Promise<string> {
  const directory = join(SCENE, name);
  const options = {
    name,
    domain: `${name}.example`,
    room: "federation@rooms.messina.example",
    host: ADDRESSES[side],
    advertise: ADDRESSES[side],
    "client-port": 5222,
    "server-port": 5269,
    "data-port": 7001,
    link: rate,
    cpus: 8,
    memory: "8G",
  };
  const flags = Object.entries(options).flatMap(([key, value]) => [`--${key}`, String(value)]);
  await run(process.execPath, [AGENT, "init", directory, ...flags]);
  return directory;
}

async function exchangeCards(directories: readonly string[]): Promise<void> {
  for (const from of directories) {
    const file = join(SCENE, "card.json");
    writeFileSync(file, await run(process.execPath, [AGENT, "card", from]));
    for (const to of directories) {
      if (to !== from) await run(process.execPath, [AGENT, "trust", to, file]);
    }
  }
}

export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + START_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(100);
  }
}

async function start(link: Link, side: Side, directory: string, sizeBytes: number) {
  const name = directory.split("/").at(-1) ?? "";
  const log = openSync(join(directory, "agent.log"), "a");
  const command = link.command(side, process.execPath, [AGENT, "run", directory]);
  const child = spawn(...command, { stdio: ["ignore", log, log] });
  const api = connectAgent(join(directory, "agent.sock"));
  await until(`the agent of ${name} answers`, async () => {
    if (child.exitCode !== null) throw new Error(`the agent ended: see ${directory}/agent.log`);
    return await api.call("agent.info", {}).then(
      () => true,
      () => false,
    );
  });
  const web = new Web(link, side, sizeBytes);
  await web.event("listening");
  return { name, side, directory, api, web };
}

export interface SceneOptions {
  readonly bitsPerSecond: number;
  /** Of the file that machines download. */
  readonly fileBytes: number;
  /** Directory of the components that `messina` holds. */
  readonly repository: string;
  /** Of these components, what `inquadro` holds. */
  readonly held: Held;
}

/** Fresh clouds that see each other. Everything in the namespaces ends with the link. */
export async function openScene(options: SceneOptions): Promise<Scene> {
  const { bitsPerSecond, fileBytes, repository, held } = options;
  for (const name of ["messina", "inquadro", "monolith"]) {
    rmSync(join(SCENE, name), { recursive: true, force: true });
  }
  mkdirSync(SCENE, { recursive: true });
  const rate = `${bitsPerSecond}bit/s`;
  const directories = [
    await init("messina", "sender", rate),
    await init("inquadro", "receiver", rate),
  ] as const;
  for (const directory of held === "nothing" ? [directories[0]] : directories) {
    cpSync(repository, join(directory, "repository"), { recursive: true });
  }
  await exchangeCards(directories);
  const link = await Link.open({ bitsPerSecond });
  try {
    const messina = await start(link, "sender", directories[0], fileBytes);
    const inquadro = await start(link, "receiver", directories[1], fileBytes);
    for (const { api, name } of [messina, inquadro]) {
      await until(`${name} sees the other cloud`, async () => {
        const { clouds } = await api.call("cloud.list", {});
        return clouds.some(({ offer }) => offer !== undefined);
      });
    }
    if (held === "all but redis") {
      await inquadro.api.call("component.remove", { component: "redis" });
    }
    return { link, bitsPerSecond, messina, inquadro };
  } catch (error) {
    link.close();
    throw error;
  }
}

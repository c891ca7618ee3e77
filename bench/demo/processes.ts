/** The demo's own processes: started apart, remembered in a file, ended by pid and start time. */
import { spawn } from "node:child_process";
import { mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ProcessIdentity } from "#core";
import { realWorld } from "#system";

const { processes } = realWorld();
const END_MS = 15_000;

/** What runs for the demo in `root`; kept so that a later run or `make clean` can end it. */
export class Running {
  readonly #file: string;
  #identities: ProcessIdentity[];

  constructor(root: string) {
    this.#file = join(root, "processes.json");
    this.#identities = read(this.#file);
  }

  /** Starts a program that survives us; `log` gets what it prints. */
  start(program: string, args: readonly string[], log: string): ProcessIdentity {
    mkdirSync(dirname(log), { recursive: true });
    const output = openSync(log, "a");
    const child = spawn(program, args, { stdio: ["ignore", output, output], detached: true });
    child.unref();
    const identity = processes.identify(child.pid ?? 0);
    if (identity === undefined) throw new Error(`${program} ended at once: see ${log}`);
    this.#identities.push(identity);
    mkdirSync(dirname(this.#file), { recursive: true });
    writeFileSync(this.#file, JSON.stringify(this.#identities));
    return identity;
  }

  alive(identity: ProcessIdentity): boolean {
    return processes.alive(identity);
  }

  /** Ends all of them, by force after a while. */
  async end(): Promise<void> {
    const alive = (): ProcessIdentity[] => this.#identities.filter((each) => processes.alive(each));
    for (const identity of alive()) processes.kill(identity, "SIGTERM");
    const deadline = performance.now() + END_MS;
    while (alive().length > 0 && performance.now() < deadline) await sleep(50);
    for (const identity of alive()) processes.kill(identity, "SIGKILL");
    this.#identities = [];
    rmSync(this.#file, { force: true });
  }
}

function read(file: string): ProcessIdentity[] {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as ProcessIdentity[];
  } catch {
    return [];
  }
}

/** Ends the guests of a cloud that no agent looks after any more. */
export function endGuests(cloud: string): void {
  for (const identity of guestsBelow(join(cloud, "machines"))) processes.kill(identity, "SIGKILL");
}

/** Every process whose command line names a file below the directory: its machines' hypervisors. */
export function guestsBelow(directory: string): ProcessIdentity[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && commandOf(name).includes(`${directory}/`))
    .map((name) => processes.identify(Number(name)))
    .filter((identity) => identity !== undefined);
}

function commandOf(pid: string): string {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
    return command.startsWith("qemu-system") ? command : "";
  } catch {
    return "";
  }
}

/** Ports that are free now. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  const ports = await Promise.all(
    servers.map(async (server) => {
      if (!server.listening) await new Promise((resolve) => server.once("listening", resolve));
      return (server.address() as AddressInfo).port;
    }),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

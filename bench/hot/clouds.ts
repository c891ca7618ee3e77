/** Ours: two agents, each in its side's network namespace, and `tessera migrate --live` between them. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connectAgent, type AgentClient } from "#cli";
import { ADDRESSES, SIDES, type Side } from "../transfer/link.ts";
import { prepare } from "../transfer/scene.ts";
import { ENVIRONMENT, NODE_OPTIONS } from "../as-agents.ts";
import { APPLIANCE, components, consoleTail, instanceFiles } from "./guest.ts";
import type { Hosts, HostsRequest, Moved } from "./hosts.ts";
import type { Path } from "./path.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const AGENT = join(ROOT, "src/agent/main.ts");
const TESSERA = join(ROOT, "bin/tessera");
const PORTS = { "client-port": 5222, "server-port": 5269, "data-port": 7443 };
const NAMES: Readonly<Record<Side, string>> = { sender: "messina", receiver: "inquadro" };
const START_MS = 300_000;
const OWN_ENVIRONMENT = { TESSERA_ACCELERATOR: "tcg", TESSERA_LOG: "debug" };
const MACHINE = "bench";

const otherOf = (side: Side): Side => (side === "sender" ? "receiver" : "sender");

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + START_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(100);
  }
}

class Cloud {
  readonly name: string;
  readonly root: string;
  readonly side: Side;
  readonly api: AgentClient;
  readonly #path: Path;
  #agent: ChildProcess | undefined;

  constructor(path: Path, directory: string, side: Side) {
    this.side = side;
    this.#path = path;
    this.name = NAMES[side];
    this.root = join(directory, this.name);
    this.api = connectAgent(join(this.root, "agent.sock"));
  }

  agentCommand(...args: readonly string[]): string {
    const all = [AGENT, ...args];
    const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: "utf8" });
    if (status !== 0) throw new Error(`agent ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  initialise(repository: string, link: string, lineage: boolean): void {
    rmSync(this.root, { recursive: true, force: true });
    const host = ADDRESSES[this.side];
    const options = { name: this.name, domain: `${this.name}.example`, ...PORTS, host };
    const more = { advertise: host, room: `federation@rooms.${NAMES.sender}.example`, link };
    const size = { cpus: 4, memory: "4G" };
    const flags = Object.entries({ ...options, ...more, ...size });
    const words = flags.flatMap(([key, value]) => [`--${key}`, String(value)]);
    this.agentCommand("init", this.root, ...words);
    if (!lineage) {
      const file = join(this.root, "cloud.yaml");
      writeFileSync(file, `${readFileSync(file, "utf8")}\nlineage: { keep: false }\n`);
    }
    prepare(`cp -a --reflink=auto ${repository} ${this.root}/repository`);
  }

  async start(): Promise<void> {
    const log = openSync(`${this.root}.log`, "a");
    const run = [...NODE_OPTIONS, AGENT, "run", this.root];
    const [program, args] = this.#path.command(this.side, process.execPath, run);
    const env = { ...process.env, ...ENVIRONMENT, ...OWN_ENVIRONMENT };
    this.#agent = spawn(program, args, { stdio: ["ignore", log, log], env });
    await until(`the agent of ${this.name} answers`, () =>
      this.api.call("agent.info", {}).then(
        () => true,
        () => false,
      ),
    );
  }

  /** Seconds of processor time and peak resident bytes of the agent's process so far. */
  used(): { readonly cpu_s: number; readonly peakBytes: number } {
    const pid = this.#agent?.pid ?? 0;
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) * 1024;
    return { cpu_s: (Number(fields[11]) + Number(fields[12])) / 100, peakBytes: peak };
  }

  /** From now on the peak counts anew. */
  forgetPeak(): void {
    writeFileSync(`/proc/${this.#agent?.pid ?? 0}/clear_refs`, "5");
  }

  tessera(args: readonly string[]): ChildProcess {
    const env = { ...process.env, TESSERA_AGENT: join(this.root, "agent.sock") };
    return spawn(TESSERA, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  }

  async stop(): Promise<void> {
    const agent = this.#agent;
    if (agent === undefined || agent.exitCode !== null) return;
    agent.kill("SIGTERM");
    await once(agent, "exit");
  }
}

export class CloudHosts implements Hosts {
  readonly consoles: readonly string[];
  readonly #clouds: Readonly<Record<Side, Cloud>>;
  #at: Side = "sender";

  private constructor(clouds: Record<Side, Cloud>, uuid: string) {
    this.#clouds = clouds;
    this.consoles = SIDES.map((side) => join(clouds[side].root, "machines", uuid, "console.log"));
  }

  /** Boots the machine at the sending side. @param lineage both clouds keep what a machine leaves */
  static async start(request: HostsRequest, lineage: boolean): Promise<CloudHosts> {
    const { path, directory } = request;
    const make = (side: Side): Cloud => new Cloud(path, join(directory, "ours"), side);
    const clouds = { sender: make("sender"), receiver: make("receiver") };
    const repository = await components();
    mkdirSync(join(directory, "ours"), { recursive: true });
    for (const side of SIDES) clouds[side].initialise(repository, "1Gbit/s", lineage);
    for (const side of SIDES) {
      const card = join(directory, "ours/card.json");
      writeFileSync(card, clouds[side].agentCommand("card", clouds[side].root));
      clouds[otherOf(side)].agentCommand("trust", clouds[otherOf(side)].root, card);
    }
    for (const side of SIDES) await clouds[side].start();
    for (const side of SIDES) await meets(clouds[side]);
    const { api } = clouds.sender;
    await api.call("appliance.add", { fileName: "bench.yaml", text: APPLIANCE });
    const files = instanceFiles();
    const { uuid } = await api.call("machine.create", { name: MACHINE, appliance: MACHINE, files });
    const hosts = new CloudHosts(clouds, uuid);
    await api.call("machine.start", { machine: MACHINE }).catch((cause: unknown) => {
      throw new Error(consoleTail(hosts.consoles[0] ?? ""), { cause });
    });
    return hosts;
  }

  async move(limit_s: number): Promise<Moved> {
    const source = this.#clouds[this.#at];
    const destination = this.#clouds[otherOf(this.#at)];
    const all = Object.values(this.#clouds);
    for (const cloud of all) cloud.forgetPeak();
    const cpu = all.map((cloud) => cloud.used().cpu_s);
    const begin = performance.now();
    const child = source.tessera(["migrate", MACHINE, "--to", destination.name, "--live"]);
    const timer = setTimeout(() => void this.#cancel(source), limit_s * 1000);
    const errors: Buffer[] = [];
    child.stderr?.on("data", (data: Buffer) => errors.push(data));
    const [status] = (await once(child, "close")) as [number | null];
    clearTimeout(timer);
    const seconds = (performance.now() - begin) / 1000;
    const used = all.map((cloud) => cloud.used());
    const more = {
      cpu_s: used.reduce((sum, { cpu_s }, index) => sum + cpu_s - (cpu[index] ?? 0), 0),
      peakMiB: Math.max(...used.map(({ peakBytes }) => peakBytes)) / 2 ** 20,
    };
    if (status !== 0) {
      const words = Buffer.concat(errors).toString().slice(-1500);
      return { ended: false, seconds, more, words };
    }
    this.#at = destination.side;
    return { ended: true, seconds, ...(await this.#told(destination, more)) };
  }

  async #cancel({ api }: Cloud): Promise<void> {
    const { migrations } = await api.call("migration.list", {});
    const open = migrations.find(({ outcome }) => outcome === undefined);
    if (open !== undefined) await api.call("migration.cancel", { migration: open.migration });
  }

  /** What the receipt says. */
  async #told({ api }: Cloud, more: Readonly<Record<string, number>>) {
    const { migrations } = await api.call("migration.list", {});
    const [newest] = migrations;
    const shown = await api.call("migration.show", { migration: newest?.migration ?? "" });
    const receipt = shown.receipt?.receipt;
    if (receipt === undefined) return { more };
    const { downtime_ms, phases_ms } = receipt;
    const hot: unknown = "hot" in receipt ? receipt.hot : undefined;
    const phases = Object.entries(phases_ms).map(([name, ms]) => [`${name}_ms`, ms] as const);
    const parts = {
      ...more,
      ...Object.fromEntries(phases),
      ...flat("hot", hot),
    };
    return { downtime_ms, more: parts };
  }

  async close(): Promise<void> {
    const { api } = this.#clouds[this.#at];
    await api.call("machine.stop", { machine: MACHINE, force: true }).catch(() => undefined);
    for (const side of SIDES) await this.#clouds[side].stop();
  }
}

/** Numbers anywhere in it, named by their place. */
function flat(name: string, value: unknown): Record<string, number> {
  if (typeof value === "number") return { [name]: value };
  if (typeof value !== "object" || value === null) return {};
  const entries = Object.entries(value).map(([key, part]) => flat(`${name}.${key}`, part));
  return Object.assign({}, ...entries) as Record<string, number>;
}

async function meets({ name, api }: Cloud): Promise<void> {
  await until(`${name} sees the other cloud`, async () => {
    const { clouds } = await api.call("cloud.list", {});
    return clouds.some(({ offer }) => offer !== undefined);
  });
}

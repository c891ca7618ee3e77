/** Our data plane as one of the tools: a sender and a receiver, a process each, as agents are. */
import { spawn, spawnSync, type ChildProcessByStdio } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import type { ComponentReference } from "#core";
import { ENVIRONMENT, NODE_OPTIONS } from "../as-agents.ts";
import { ADDRESSES, type Link, type Side } from "./link.ts";
import type { Sides } from "./ours-side.ts";
import { PORT, prepare, started, type Fetched, type Pair, type Scene, type Tool } from "./scene.ts";

const PROGRAM = join(import.meta.dirname, "ours-side.ts");

/** As the planner has it: description and fragments are JSON. */
const JSON_RATIO = 0.2;

type Program = ChildProcessByStdio<Writable, Readable, null>;

/** A side as a process that tells and is told lines of JSON. */
class Process {
  readonly #child: Program;
  readonly #lines: AsyncIterator<string>;

  constructor(link: Link, side: Side, mode: string, sides: Sides) {
    const script = [...NODE_OPTIONS, PROGRAM, mode, JSON.stringify(sides)];
    const [program, args] = link.command(side, process.execPath, script);
    const env = { ...process.env, ...ENVIRONMENT };
    this.#child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"], env });
    started.add(this.#child);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async said(): Promise<Readonly<Record<string, number>>> {
    const line = await this.#lines.next();
    if (line.done === true) throw new Error("a side of ours ended early");
    return JSON.parse(line.value) as Readonly<Record<string, number>>;
  }

  tell(): void {
    this.#child.stdin.write("\n");
  }
}

/** Runs a side that prepares; what it tells is kept in a file, which says that it is done. */
function once(file: string, mode: string, value: object): void {
  if (existsSync(file)) return;
  const { status, stdout } = spawnSync(process.execPath, [PROGRAM, mode, JSON.stringify(value)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (status !== 0) throw new Error(`cannot prepare ${file}`);
  writeFileSync(file, stdout);
}

type References = Readonly<Record<string, ComponentReference>>;

/** Repositories of both sides, or what a receiver of a disk keeps beside its copy. */
function prepareSides(pair: Pair, prepared: string): void {
  const [old, fresh] = [[pair.old].flatMap((path) => path ?? []), [pair.new]];
  if (pair.disk === true) {
    const place = { disk: `${pair.old ?? ""}/image`, repository: join(prepared, "blocks") };
    once(join(prepared, "lineage.json"), "digest", place);
    return;
  }
  const add = (name: string, directories: readonly string[]): void =>
    once(join(prepared, `${name}.json`), "add", { repository: join(prepared, name), directories });
  add("sender", [...old, ...fresh]);
  add("receiver", old);
}

interface Variant {
  /** Keeps the packs that the sender made for an earlier receiver. */
  readonly cached?: boolean;
}

async function fetchBoth([sender, receiver]: readonly [Process, Process]): Promise<Fetched> {
  receiver.tell();
  const received = await receiver.said();
  sender.tell();
  const sent = await sender.said();
  return {
    more: {
      ...named("sender", sent),
      ...received,
      ...named("receiver", received),
    },
  };
}

/** Figures that both sides tell, by side. */
function named(side: Side, told: Readonly<Record<string, number>>) {
  const { cpu_s = 0, peakMiB = 0, restMiB = 0 } = told;
  const memory = { [`${side}PeakMiB`]: peakMiB, [`${side}RestMiB`]: restMiB };
  return { [`${side}Cpu_s`]: cpu_s, ...memory };
}

function ours(name: string, how: string, { cached = false }: Variant): Tool {
  const running = new WeakMap<Scene, [Process, Process]>();
  return {
    name,
    how,
    prepare: prepareSides,
    async serve(scene) {
      const { link, prepared, target } = scene;
      const packs = join(prepared, "sender", "tessera", "packs");
      if (!cached) prepare(`rm -rf ${packs}`);
      const [sending, receiving] = sidesOf(scene);
      const sender = new Process(link, "sender", "send", sending);
      await sender.said();
      if (existsSync(join(prepared, "receiver"))) {
        prepare(`cp -a ${prepared}/receiver ${target}/receiver; sync -f ${target}`);
      }
      const receiver = new Process(link, "receiver", "receive", receiving);
      await receiver.said();
      running.set(scene, [sender, receiver]);
    },
    async fetch(scene) {
      const sides = running.get(scene);
      if (sides === undefined) throw new Error("nothing was started");
      return await fetchBoth(sides);
    },
  };
}

/** The arguments of the sender and of the receiver. */
function sidesOf(scene: Scene): [Sides, Sides] {
  const { link, target, prepared, pair } = scene;
  const { bitsPerSecond } = link.shape;
  mkdirSync(join(target, "identities"), { recursive: true });
  const shared = {
    identities: join(target, "identities"),
    host: ADDRESSES.sender,
    port: PORT,
    cores: availableParallelism(),
    ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }),
  };
  const [sender, receiver] = [join(prepared, "sender"), join(target, "receiver")];
  if (pair.disk === true) {
    const lineage = JSON.parse(readFileSync(join(prepared, "lineage.json"), "utf8")) as Lineage;
    const kept = join(target, "kept");
    prepare(`cp --sparse=always ${lineage.path} ${kept}; cp ${prepared}/blocks ${kept}.blocks`);
    return [
      { ...shared, repository: sender, disk: `${pair.new}/image`, lineage },
      {
        ...shared,
        repository: receiver,
        disk: `${target}/image`,
        lineage: { ...lineage, path: kept },
      },
    ];
  }
  const reference = referenceOf(pair, prepared);
  return [
    { ...shared, repository: sender, reference },
    { ...shared, repository: receiver, reference },
  ];
}

type Lineage = NonNullable<Sides["lineage"]>;

function referenceOf(pair: Pair, prepared: string): ComponentReference {
  const references = JSON.parse(readFileSync(`${prepared}/sender.json`, "utf8")) as References;
  const reference = references[basename(pair.new)];
  if (reference === undefined) throw new Error(`${pair.new} is not in ${prepared}`);
  return reference;
}

/** Bytes on the link that a plan would predict, with nothing in the cache. */
export function predicted(pair: Pair, prepared: string, bitsPerSecond: number): number {
  const repository = join(prepared, "sender");
  prepare(`rm -rf ${repository}/tessera/packs`);
  const reference = referenceOf(pair, prepared);
  const value = { repository, reference, bitsPerSecond, cores: availableParallelism() };
  const file = `${prepared}.estimate.json`;
  rmSync(file, { force: true });
  once(file, "estimate", value);
  const said = JSON.parse(readFileSync(file, "utf8")) as { bytes: number; smallBytes: number };
  return said.bytes + Math.ceil(said.smallBytes * JSON_RATIO);
}

export const OURS: readonly Tool[] = [
  ours("ours", "Tessera, no pack made before", {}),
  ours("ours-cached", "Tessera, packs made before for another destination", { cached: true }),
];

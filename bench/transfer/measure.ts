/** Measures one peer with one pair at one rate. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { OURS } from "./ours.ts";
import { Link, type LinkShape } from "./link.ts";
import { CASYNC } from "./peers/casync.ts";
import { NBDS } from "./peers/nbd.ts";
import { PIPES } from "./peers/pipes.ts";
import { RSYNCS } from "./peers/rsync.ts";
import { SKOPEO } from "./peers/skopeo.ts";
import {
  childrenCpu_s,
  prepare,
  run,
  started,
  type Measure,
  type Pair,
  type Tool,
} from "./scene.ts";

export const BUILD = resolve(import.meta.dirname, "../../build/bench");
export const PEERS: readonly Tool[] = [...PIPES, ...RSYNCS, CASYNC, ...NBDS, SKOPEO];
export const TOOLS: readonly Tool[] = [...PEERS, ...OURS];

const hashes = new Map<string, string>();

function sha256Of(path: string): string {
  const known = hashes.get(path);
  if (known !== undefined) return known;
  const { stdout } = spawnSync("openssl", ["dgst", "-sha256", "-r", path], { encoding: "utf8" });
  const hash = stdout.slice(0, 64);
  hashes.set(path, hash);
  return hash;
}

/** Once per tool and pair. */
export function prepared(tool: Tool, pair: Pair): string {
  const directory = join(BUILD, "prepared", `${pair.name}-${tool.name}`);
  if (existsSync(directory)) return directory;
  const beside = `${directory}.new`;
  rmSync(beside, { recursive: true, force: true });
  mkdirSync(beside, { recursive: true });
  tool.prepare?.(pair, beside);
  renameSync(beside, directory);
  return directory;
}

/** Both files in the page cache, so that the disk's luck does not decide. */
function warm(pair: Pair): void {
  const images = [pair.old, pair.new].flatMap((each) =>
    each === undefined ? [] : `${each}/image`,
  );
  prepare(`cat ${images.join(" ")} > /dev/null; sync`);
}

export async function measure(tool: Tool, pair: Pair, shape: LinkShape): Promise<Measure> {
  const target = join(BUILD, "target", `${pair.name}-${tool.name}-${process.pid}`);
  const ready = prepared(tool, pair);
  mkdirSync(target, { recursive: true });
  warm(pair);
  const link = await Link.open(shape);
  try {
    const scene = { pair, link, prepared: ready, target };
    await tool.serve?.(scene);
    const [cpu, bytes, begin] = [childrenCpu_s(), link.bytes(), performance.now()];
    const { path, more } = await tool.fetch(scene);
    if (path !== undefined) {
      const check = `openssl dgst -sha256 -r ${path} | grep -q ^${sha256Of(`${pair.new}/image`)}`;
      await run(link, "receiver", `sync ${path}; ${check}`);
    }
    const seconds = (performance.now() - begin) / 1000;
    const moved = link.bytes() - bytes;
    link.close();
    await started.ended();
    const used = childrenCpu_s() - cpu;
    const figures = { seconds, bytes: moved, cpu_s: used, ...(more === undefined ? {} : { more }) };
    return { ...named(tool, pair, shape), ...figures };
  } finally {
    link.close();
    await started.ended();
    rmSync(target, { recursive: true, force: true });
    prepare(`rm -rf ${target}.*`);
  }
}

function named({ name }: Tool, pair: Pair, { bitsPerSecond }: LinkShape) {
  return {
    pair: pair.name,
    tool: name,
    ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }),
  };
}

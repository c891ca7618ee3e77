/** Runs one target, apart from whoever supervises it: a decoder that hangs can be ended. */
import { parentPort, workerData } from "node:worker_threads";
import { TesseraError } from "#core";
import { fuzzRandom, mutate, seedOf } from "./random.ts";
import type { FuzzFinding, FuzzReport, FuzzTarget } from "./target.ts";
import { TARGETS } from "./targets.ts";

export interface FuzzTask {
  readonly name: string;
  readonly seed: string;
  readonly first: number;
  readonly count: number;
  /** One 32-bit number: the input that is being decoded. */
  readonly progress: SharedArrayBuffer;
}

const FINDINGS_MAX = 10;
const SLOW_MS = 1000;
const MEMORY_BYTES_MAX = 512 * 2 ** 20;
const SAMPLE_EVERY = 1024;

/** Why an error is a finding; undefined where it is what the decoder promises. */
function fault(target: FuzzTarget, error: unknown): string | undefined {
  if (!(error instanceof TesseraError)) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  return target.codes.includes(error.code)
    ? undefined
    : `${error.fault} ${error.code}: ${error.message}`;
}

function inputOf(
  target: FuzzTarget,
  seeds: readonly Buffer[],
  seed: number,
  index: number,
): Buffer {
  const random = fuzzRandom(seed + Math.imul(index, 0x9e37_79b1));
  const generated = target.generate !== undefined && random.chance(0.5);
  return generated ? (target.generate?.(random, seeds) ?? Buffer.alloc(0)) : mutate(random, seeds);
}

async function checkSeeds(target: FuzzTarget, seeds: readonly Buffer[]): Promise<void> {
  for (const seed of seeds) await target.decode(Buffer.from(seed));
}

/** On a busy machine anything may take long once; only what always does is slow. */
async function takesLong(target: FuzzTarget, input: Buffer): Promise<boolean> {
  for (let left = 3; left > 0; left -= 1) {
    const from = performance.now();
    await new Promise((resolve) => resolve(target.decode(Buffer.from(input)))).catch(
      () => undefined,
    );
    if (performance.now() - from <= SLOW_MS) return false;
  }
  return true;
}

async function run(target: FuzzTarget, task: FuzzTask): Promise<FuzzReport> {
  const seeds = await target.seeds();
  await checkSeeds(target, seeds);
  const seed = seedOf(`${task.seed} ${target.name}`);
  const progress = new Int32Array(task.progress);
  const findings: FuzzFinding[] = [];
  const started = performance.now();
  let [accepted, slowest_ms, memoryBytes, done] = [0, 0, 0, 0];
  const found = (index: number, what: string, input: Buffer): void => {
    findings.push({ index, what, input: input.toString("base64").slice(0, 4096) });
  };
  for (; done < task.count && findings.length < FINDINGS_MAX; done += 1) {
    const index = task.first + done;
    Atomics.store(progress, 0, index);
    const input = inputOf(target, seeds, seed, index);
    const from = performance.now();
    try {
      const result = target.decode(Buffer.from(input));
      if (result instanceof Promise) await result;
      accepted += 1;
    } catch (error) {
      const what = fault(target, error);
      if (what !== undefined) found(index, what, input);
    }
    const took_ms = performance.now() - from;
    slowest_ms = Math.max(slowest_ms, took_ms);
    if (took_ms > SLOW_MS && (await takesLong(target, input))) {
      found(index, `it took ${Math.round(took_ms)} ms`, input);
    }
    if (done % SAMPLE_EVERY !== 0 && took_ms < 50) continue;
    const { heapUsed, external } = process.memoryUsage();
    memoryBytes = Math.max(memoryBytes, heapUsed + external);
    if (heapUsed + external > MEMORY_BYTES_MAX)
      found(index, `${heapUsed + external} bytes held`, input);
  }
  const seconds = (performance.now() - started) / 1000;
  return { name: target.name, count: done, accepted, seconds, slowest_ms, memoryBytes, findings };
}

/* Traces cost more than most decoders; one input alone shows them. */
const task = workerData as FuzzTask;
if (task.count > 1) Error.stackTraceLimit = 0;
const target = TARGETS.find(({ name }) => name === task.name);
if (target === undefined || parentPort === null) throw new Error(`no target ${task.name}`);
const report = await run(target, task);
/* eslint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker has none */
parentPort.postMessage(report);

/**
 * Gives every decoder of foreign input a million inputs or so, made from valid ones by mutation and
 * by grammar. The same seed gives the same inputs. Ends with 1 when a decoder throws what it should
 * not, breaks a property, hangs, or takes too much time or memory.
 *
 *     node bench/fuzz/fuzz.ts [--count N] [--seed TEXT] [--first INDEX] [--jobs N] [target...]
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import type { FuzzReport } from "./target.ts";
import { TARGETS } from "./targets.ts";
import type { FuzzTask } from "./worker.ts";

const HEAP_MIB = 768;
const WATCH_EVERY_MS = 1000;
/** An input that keeps a decoder busy for so long hangs it. */
const HANGS_AFTER_MS = 30_000;

function failed(name: string, index: number, what: string): FuzzReport {
  const findings = [{ index, what, input: "" }];
  return { name, count: index, accepted: 0, seconds: 0, slowest_ms: 0, memoryBytes: 0, findings };
}

/** Ends the worker when one input takes too long. */
function watch(worker: Worker, progress: Int32Array, onHang: () => void): () => void {
  let [last, since] = [-1, performance.now()];
  const timer = setInterval(() => {
    const index = Atomics.load(progress, 0);
    if (index !== last) [last, since] = [index, performance.now()];
    if (performance.now() - since < HANGS_AFTER_MS) return;
    onHang();
    void worker.terminate();
  }, WATCH_EVERY_MS);
  return () => clearInterval(timer);
}

function runTarget(task: FuzzTask): Promise<FuzzReport> {
  const progress = new Int32Array(task.progress);
  const worker = new Worker(new URL("worker.ts", import.meta.url), {
    workerData: task,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
  });
  return new Promise((resolve) => {
    const fail = (what: string): void =>
      resolve(failed(task.name, Atomics.load(progress, 0), what));
    const stop = watch(worker, progress, () => fail("it hangs"));
    worker.once("message", (report: FuzzReport) => resolve(report));
    worker.once("error", (error) =>
      fail(error instanceof Error ? (error.stack ?? error.message) : String(error)),
    );
    worker.once("exit", () => {
      stop();
      fail("it ended");
    });
  });
}

function line(report: FuzzReport): string {
  const { name, count, accepted, seconds, slowest_ms, memoryBytes, findings } = report;
  return [
    name.padEnd(20),
    `${count} inputs`.padStart(16),
    `${Math.round(count / Math.max(seconds, 0.001))}/s`.padStart(10),
    `${((100 * accepted) / Math.max(count, 1)).toFixed(1)}% accepted`.padStart(16),
    `slowest ${slowest_ms.toFixed(0)} ms`.padStart(16),
    `${Math.round(memoryBytes / 2 ** 20)} MiB`.padStart(9),
    `${findings.length} findings`.padStart(12),
  ].join("");
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: "string", default: "1000000" },
    jobs: { type: "string", default: String(availableParallelism()) },
    first: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
  },
});
const unknown = positionals.filter((name) => !TARGETS.some((target) => target.name === name));
if (unknown.length > 0) {
  process.stderr.write(
    `no target ${unknown.join(", ")}; there are ${TARGETS.map(({ name }) => name).join(", ")}\n`,
  );
  process.exit(2);
}
const waiting = TARGETS.filter(
  ({ name }) => positionals.length === 0 || positionals.includes(name),
);
let findings = 0;

async function runWaiting(): Promise<void> {
  for (let target = waiting.shift(); target !== undefined; target = waiting.shift()) {
    const report = await runTarget({
      name: target.name,
      seed: values.seed,
      first: Number(values.first),
      count: Number(values.count),
      progress: new SharedArrayBuffer(4),
    });
    process.stdout.write(`${line(report)}\n`);
    for (const { index, what, input } of report.findings) {
      process.stdout.write(`  input ${index}: ${what}\n  ${input}\n`);
    }
    findings += report.findings.length;
  }
}

await Promise.all(Array.from({ length: Number(values.jobs) }, runWaiting));
process.exitCode = findings > 0 ? 1 : 0;

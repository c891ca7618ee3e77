/**
 * The runs of a sweep on several threads. Each finished run is a file of its own, named by the
 * digest of all that it depends on and written beside, so that a sweep that was interrupted goes on
 * where it was and loses at most the runs in progress.
 */
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { TesseraError, type ErrorReport } from "#core";
import type { RunResult, SweepRun } from "#simulator";
import { readIfThere, writeText } from "./texts.ts";

/** Grows when equal inputs give other results: kept runs of another version are run anew. */
const FORMAT = "tessera-sweep-run/1";
const THREAD = new URL("./sweep-thread.ts", import.meta.url);

export interface SweepOptions {
  readonly directory: string;
  readonly threads: number;
  readonly interrupted: AbortSignal;
  /** Called first with what was kept, then after each run. */
  readonly progress: (done: number) => void;
}

interface Kept {
  readonly format: string;
  readonly key: string;
  readonly result: RunResult;
}

/** The results of all runs, in their order. @throws what a run throws; what is done stays */
export async function runSweep(
  runs: readonly SweepRun[],
  { directory, threads, interrupted, progress }: SweepOptions,
): Promise<RunResult[]> {
  await mkdir(join(directory, "runs"), { recursive: true });
  const results = await Promise.all(runs.map((run) => keptOf(fileOf(directory, run), run)));
  const open = [...runs.entries()].filter(([index]) => results[index] === undefined);
  let done = runs.length - open.length;
  progress(done);
  const work = async (): Promise<void> => {
    const thread = new Worker(THREAD);
    try {
      for (let next = open.shift(); next !== undefined; next = open.shift()) {
        const [index, run] = next;
        const result = await runOn(thread, run, interrupted);
        const kept = { format: FORMAT, key: run.key, result } satisfies Kept;
        await writeText(fileOf(directory, run), `${JSON.stringify(kept)}\n`);
        results[index] = result;
        progress((done += 1));
      }
    } catch (error) {
      open.length = 0;
      throw error;
    } finally {
      await thread.terminate();
    }
  };
  const count = Math.min(threads, open.length);
  const ends = await Promise.allSettled(Array.from({ length: count }, work));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
  return results.filter((result) => result !== undefined);
}

function fileOf(directory: string, { key }: SweepRun): string {
  const name = createHash("sha256").update(`${FORMAT}\n${key}`).digest("hex").slice(0, 32);
  return join(directory, "runs", `${name}.json`);
}

/** A file that is damaged counts as not there. */
async function keptOf(path: string, { key }: SweepRun): Promise<RunResult | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    const kept = JSON.parse(text) as Partial<Kept>;
    return kept.format === FORMAT && kept.key === key ? kept.result : undefined;
  } catch {
    return undefined;
  }
}

interface Answer {
  readonly result?: RunResult;
  readonly error?: ErrorReport;
}

function runOn(thread: Worker, run: SweepRun, interrupted: AbortSignal): Promise<RunResult> {
  const { promise, resolve, reject } = Promise.withResolvers<RunResult>();
  const abort = (): void => reject(interrupted.reason);
  const answered = ({ result, error }: Answer): void => {
    if (result !== undefined) resolve(result);
    else reject(failed(run, error));
  };
  if (interrupted.aborted) abort();
  interrupted.addEventListener("abort", abort, { once: true });
  thread.once("message", answered);
  thread.once("error", reject);
  thread.postMessage(run, []);
  return promise.finally(() => {
    interrupted.removeEventListener("abort", abort);
    thread.off("message", answered);
    thread.off("error", reject);
  });
}

function failed({ seed, policy, values }: SweepRun, error: ErrorReport | undefined): TesseraError {
  const subject = JSON.stringify({ ...values, seed, policy: policy.name });
  const { fault = "bug", code = "core.unexpected", message = "a run failed" } = error ?? {};
  return new TesseraError(fault, code, message, { subject });
}

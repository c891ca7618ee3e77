/** Makes differences on threads of their own: they would keep the event loop for long. */
import { Worker } from "node:worker_threads";
import { ownedBuffers, type DifferenceJob, type DifferenceResult } from "./difference-job.ts";

const PROGRAM = new URL("difference-thread.ts", import.meta.url);
/** Of JavaScript's own heap, where regions are gathered; buffers count besides. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 } as const;

/** One thread, which makes one difference at a time. */
class DifferenceThread {
  readonly #worker: Worker;
  #settle: ((result: DifferenceResult | Error) => void) | undefined;

  constructor(onEnd: () => void) {
    this.#worker = new Worker(PROGRAM, { resourceLimits: RESOURCE_LIMITS });
    this.#worker.unref();
    this.#worker.on("message", (result: DifferenceResult) => this.#end(result));
    this.#worker.on("error", (error: Error) => this.#end(error));
    this.#worker.on("exit", () => {
      onEnd();
      this.#end(new Error("a thread that makes differences has ended"));
    });
  }

  /** @throws what ended the thread */
  async make(job: DifferenceJob): Promise<DifferenceResult> {
    // A thread that has nothing to do does not keep the process alive.
    this.#worker.ref();
    const result = await new Promise<DifferenceResult | Error>((resolve) => {
      this.#settle = resolve;
      this.#worker.postMessage(job, ownedBuffers([job.dictionary, job.raw]));
    });
    this.#worker.unref();
    if (result instanceof Error) throw result;
    return result;
  }

  end(): void {
    void this.#worker.terminate();
  }

  #end(result: DifferenceResult | Error): void {
    this.#settle?.(result);
    this.#settle = undefined;
  }
}

/** As many threads as there is work at a time; each is started when it is needed first. */
export class DifferenceThreads {
  readonly #idle: DifferenceThread[] = [];
  readonly #all = new Set<DifferenceThread>();
  #over: Error | undefined;

  /**
   * The difference of `raw` from what the dictionary has behind its first byte. The buffers of the
   * job must not be used any more; those of the result have the same content.
   *
   * @throws the reason of `close`, or what ended the thread
   */
  async make(job: DifferenceJob): Promise<DifferenceResult> {
    if (this.#over !== undefined) throw this.#over;
    const thread = this.#idle.pop() ?? this.#start();
    try {
      return await thread.make(job);
    } catch (cause) {
      throw this.#over ?? cause;
    } finally {
      if (this.#all.has(thread)) this.#idle.push(thread);
    }
  }

  /** Ends all threads; what they are at fails with `reason`. */
  close(reason: Error): void {
    this.#over ??= reason;
    for (const thread of this.#all) thread.end();
    this.#all.clear();
    this.#idle.length = 0;
  }

  #start(): DifferenceThread {
    const thread = new DifferenceThread(() => {
      this.#all.delete(thread);
      const at = this.#idle.indexOf(thread);
      if (at >= 0) this.#idle.splice(at, 1);
    });
    this.#all.add(thread);
    return thread;
  }
}

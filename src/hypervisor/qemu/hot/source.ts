import { z } from "zod";
import { hasCode, TesseraError, type World } from "#core";
import type {
  DataExport,
  EmigrationOptions,
  HotDescription,
  HotEvent,
  HotSource,
  HotStatistics,
  HotStatus,
  RunState,
} from "../../contract.ts";
import type { Layout } from "../layout.ts";
import * as data from "./data-export.ts";
import { broken, ENDED, POSTCOPY } from "./decode.ts";
import * as method from "./method.ts";
import { ignoreRefusal, type HotSession } from "./session.ts";

/** A QEMU that can answer does so at once. */
const PROMPT_MS = 500;
const CANCEL_MS = 10_000;
const RECOVER_MS = 10_000;
const RUN_POLL_MS = 20;
const RUN_TRIES = 15;
const BLOCK_JOBS = z.array(z.object({ type: z.string() }));
/** States in which a migration need not be begun: it is under way, or done. */
const IDLE: readonly HotStatus[] = ["none", "failed", "cancelled"];

export interface SourceParts {
  readonly world: World;
  readonly layout: Layout;
  readonly session: HotSession;
  readonly description: HotDescription;
  /** Ends the process by force. */
  readonly end: () => Promise<unknown>;
}

export class QemuSource implements HotSource {
  readonly description: HotDescription;
  readonly #parts: SourceParts;
  readonly #session: HotSession;

  constructor(parts: SourceParts) {
    this.#parts = parts;
    this.#session = parts.session;
    this.description = parts.description;
  }

  async state(): Promise<{ migration: HotStatus; run: RunState }> {
    const { migration, run } = await this.#session.state();
    return { migration: leaving(migration, run), run };
  }

  statistics(): Promise<HotStatistics> {
    return this.#session.statistics();
  }

  events(signal?: AbortSignal): AsyncIterable<HotEvent> {
    return this.#session.events(signal);
  }

  until(...args: Parameters<HotSession["until"]>): Promise<HotStatus> {
    return this.#session.until(...args);
  }

  exportData(options: { readonly bitmap?: string } = {}): Promise<DataExport> {
    return data.exportData(this.#session, this.#parts.layout.dataSocket, options.bitmap);
  }

  unexport(): Promise<void> {
    return data.unexport(this.#session);
  }

  trackWrites(name: string): Promise<void> {
    return data.trackWrites(this.#session, name);
  }

  freezeWrites(name: string, next?: string): Promise<void> {
    return data.freezeWrites(this.#session, name, next);
  }

  writtenBytes(name: string): Promise<number | undefined> {
    return data.writtenBytes(this.#session, name);
  }

  forgetWrites(name: string): Promise<void> {
    return data.forgetWrites(this.#session, name);
  }

  async emigrate(options: EmigrationOptions): Promise<void> {
    method.checkEmigration(options);
    if (!IDLE.includes((await this.state()).migration)) return;
    const info = await this.#session.info();
    if (info.blockedBy.length > 0) throw blocked(info.blockedBy.join("; "));
    await this.#refuseJobs();
    await method.setCapabilities(this.#session, method.sourceCapabilities(options));
    await method.setParameters(this.#session, method.sourceParameters(options));
    await this.#session.execute("migrate", { uri: `unix:${options.socketPath}` });
  }

  /** A job would write to disks that are handed over, or read from one that is gone. */
  async #refuseJobs(): Promise<void> {
    const decoded = BLOCK_JOBS.safeParse(await this.#session.execute("query-block-jobs"));
    if (!decoded.success) throw broken("query-block-jobs is not understood", decoded.error);
    const [job] = decoded.data;
    if (job !== undefined) throw blocked(`a block job (${job.type}) is running`);
  }

  async allowDowntime(downtime_ms: number): Promise<void> {
    method.checkDowntime(downtime_ms);
    await method.setParameters(this.#session, { "downtime-limit": downtime_ms });
  }

  async slowDown(percent: number): Promise<void> {
    method.checkPercent(percent);
    await method.setParameters(this.#session, method.throttle(percent));
  }

  async startPostcopy(): Promise<void> {
    const { status } = await this.#session.info();
    if (status === "active" || status === "setup") {
      await this.#session.execute("migrate-start-postcopy");
    }
  }

  async switchOver(): Promise<void> {
    const { status } = await this.#session.info();
    if (status === "pre-switchover") {
      await this.#session.execute("migrate-continue", { state: "pre-switchover" });
    } else if (status === "setup" || status === "active" || IDLE.includes(status)) {
      throw new TesseraError("misuse", "hypervisor.hot-order", `the migration is ${status}`, {
        remedy: "wait for pre-switchover",
      });
    }
  }

  async cancel(): Promise<"cancelled" | "completed" | "committed"> {
    const status = await this.#endMigration();
    if (POSTCOPY.includes(status)) return "committed";
    if (status === "completed") return "completed";
    await this.#waitRunning();
    return "cancelled";
  }

  /** The status in which nothing is under way any more, or post-copy. */
  async #endMigration(): Promise<HotStatus> {
    const settled = [...POSTCOPY, ...ENDED];
    const said = await this.#promptStatus();
    const before = said === "completed" ? (await this.state()).migration : said;
    if (before === "none" || (before !== undefined && settled.includes(before))) return before;
    const ended = this.#session.until(POSTCOPY, { timeout_ms: CANCEL_MS });
    // It is waited for below, whatever the commands say.
    ended.catch(() => {});
    const answered =
      before !== undefined &&
      (await prompt(() => this.#session.execute("migrate_cancel", {}, PROMPT_MS)));
    if (!answered) await this.#yank();
    return ended;
  }

  /** Undefined when QEMU hangs: its main loop waits for the network while the guest is stopped. */
  async #promptStatus(): Promise<HotStatus | undefined> {
    let status: HotStatus | undefined;
    await prompt(async () => {
      ({ status } = await this.#session.info(PROMPT_MS));
    });
    return status;
  }

  /** Shuts the sockets of the migration down, which is all that frees a hanging QEMU. */
  async #yank(): Promise<void> {
    // Refused when the migration has no socket any more.
    await this.#session
      .outOfBand("yank", { instances: [{ type: "migration" }] })
      .catch(ignoreRefusal);
  }

  /**
   * QEMU resumes a guest that it had stopped, but after it has said that the migration failed; and not
   * at all where post-copy was about to begin.
   */
  async #waitRunning(): Promise<void> {
    for (let tries = 0; tries < RUN_TRIES; tries++) {
      if ((await this.#session.run()) !== "paused") return;
      await this.#parts.world.clock.sleep(RUN_POLL_MS);
    }
    await this.#session.execute("cont");
  }

  pause(): Promise<void> {
    return this.#session.pause();
  }

  async recover(socketPath: string): Promise<void> {
    const { status } = await this.#session.info();
    if (status !== "postcopy-paused") return;
    const next: readonly HotStatus[] = ["postcopy-recover", "postcopy-active"];
    const recovering = new AbortController();
    const events = this.#session.events(recovering.signal);
    const cancel = this.#parts.world.clock.after(RECOVER_MS, () => recovering.abort());
    try {
      await this.#session.execute("migrate", { uri: `unix:${socketPath}`, resume: true });
      for await (const event of events) {
        if (event.kind !== "status") continue;
        if (next.includes(event.status) || event.status === "completed") return;
        if (event.status === "postcopy-paused") break;
      }
      throw recoverError();
    } finally {
      cancel();
      recovering.abort();
    }
  }

  async resume(): Promise<void> {
    const { migration, run } = await this.state();
    if (run === "running") return;
    if (!IDLE.includes(migration) && migration !== "completed") {
      throw new TesseraError("misuse", "hypervisor.hot-order", `the migration is ${migration}`, {
        remedy: "cancel the migration first",
      });
    }
    await this.#session.execute("cont");
  }

  async hangUp(): Promise<void> {
    // Refused where it has been done.
    await this.#session.execute("netdev_del", { id: "network" }).catch(ignoreRefusal);
  }

  async finish(): Promise<void> {
    await this.close();
    await this.#parts.end();
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}

/**
 * A QEMU that has received its guest calls that migration completed until the guest leaves; so does
 * one whose guest went on after all. One whose guest has left stands still.
 */
function leaving(migration: HotStatus, run: RunState): HotStatus {
  return migration === "completed" && run === "running" ? "none" : migration;
}

/** False when QEMU does not answer in time; a refusal is an answer. */
async function prompt(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (hasCode(error, "hypervisor.qmp-timeout")) return false;
    ignoreRefusal(error);
    return true;
  }
}

function blocked(reason: string): TesseraError {
  const message = `the machine cannot leave while it runs: ${reason}`;
  return new TesseraError("environment", "hypervisor.hot-blocked", message, {
    remedy: "remove what blocks it, or move the machine cold",
  });
}

function recoverError(): TesseraError {
  const message = "post-copy could not be taken up again over this link";
  return new TesseraError("environment", "hypervisor.recover-failed", message, {
    remedy: "let the destination wait on a new socket, then recover both sides again",
  });
}

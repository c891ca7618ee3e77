/** Several machines on their way: begun as the queue allows; one that fails stops no other. */
import type { FleetPlan, Input, MigrationProgress, MigrationStatus } from "#api";
import { hasCode, reportOf, TesseraError, type ErrorReport } from "#core";
import { nextMove, type Move } from "./fleet-queue.ts";
import type { Session } from "./session.ts";

/** What became of one machine. */
export interface FleetResult {
  readonly machine: string;
  readonly machineName: string;
  readonly migration?: string;
  /** `refused`: nothing began; `goes-on`: the command was interrupted. */
  readonly outcome: "completed" | "aborted" | "fenced" | "refused" | "goes-on" | "not-begun";
  readonly status?: MigrationStatus;
  readonly error?: ErrorReport;
}

export interface FleetEvent {
  readonly machineName: string;
  readonly progress: MigrationProgress;
}

interface Going extends Move {
  readonly name: string;
  readonly input: Input<"migration.start">;
}

export interface FleetOptions {
  /** Machines at a time. */
  readonly parallel: number;
  /** Bits per second of all together. */
  readonly bwlimit?: number;
  /** What every migration is started with besides. */
  readonly route: Partial<Input<"migration.start">>;
  readonly onProgress: (event: FleetEvent) => void;
}

/** While components travel: see `doc/migration.md`. */
const BRINGING = new Set(["proposed", "serving"]);

/** In the plan's order. */
export async function runFleet(
  session: Session,
  plan: FleetPlan,
  options: FleetOptions,
): Promise<FleetResult[]> {
  const moves = plan.machines.flatMap((entry) => movesOf(entry, options, plan.machines.length));
  const results = await new FleetRun(session, options, moves).run();
  return plan.machines.map(({ machine, machineName, error }): FleetResult => {
    const refused = { machine, machineName, outcome: "refused" as const };
    return results.get(machine) ?? { ...refused, ...(error === undefined ? {} : { error }) };
  });
}

function movesOf(
  { machine, machineName, plan }: FleetPlan["machines"][number],
  { route, parallel, bwlimit }: FleetOptions,
  count: number,
): Going[] {
  if (plan === undefined) return [];
  const { destination } = plan;
  const lacking = plan.components.filter(({ held }) => !held);
  const brings = new Set(lacking.map(({ component }) => `${destination} ${component.id}`));
  const limit = bwlimit === undefined ? {} : { bwlimit: bwlimit / Math.min(parallel, count) };
  const input = { ...route, ...limit, machine, to: destination };
  return [{ machine, name: machineName, brings, input }];
}

class FleetRun {
  readonly #session: Session;
  readonly #options: FleetOptions;
  readonly #waiting: Going[];
  readonly #bringing = new Set<Going>();
  readonly #active = new Set<Promise<void>>();
  readonly #results = new Map<string, FleetResult>();
  #interrupted = false;
  #changed = Promise.withResolvers<void>();

  constructor(session: Session, options: FleetOptions, moves: readonly Going[]) {
    this.#session = session;
    this.#options = options;
    this.#waiting = [...moves];
  }

  async run(): Promise<Map<string, FleetResult>> {
    for (;;) {
      this.#beginAll();
      if (this.#active.size === 0) break;
      await this.#changed.promise;
      this.#changed = Promise.withResolvers();
    }
    for (const { machine, name: machineName } of this.#waiting) {
      this.#results.set(machine, { machine, machineName, outcome: "not-begun" });
    }
    return this.#results;
  }

  #beginAll(): void {
    const { parallel } = this.#options;
    while (!this.#interrupted) {
      const at = { active: this.#active.size, parallel };
      const move = nextMove(this.#waiting, [...this.#bringing], at);
      if (move === undefined) return;
      this.#waiting.splice(this.#waiting.indexOf(move), 1);
      this.#bringing.add(move);
      const work = this.#take(move).finally(() => {
        this.#active.delete(work);
        this.#brought(move);
      });
      this.#active.add(work);
    }
  }

  #brought(move: Going): void {
    this.#bringing.delete(move);
    this.#changed.resolve();
  }

  async #take(move: Going): Promise<void> {
    const { machine, name: machineName } = move;
    const told: { migration?: string } = {};
    try {
      const { migration = "" } = await this.#session.call("migration.start", move.input);
      told.migration = migration;
      const status = await this.#watch(move, migration);
      const outcome = status.outcome ?? "aborted";
      const error = status.error === undefined ? {} : { error: status.error };
      this.#results.set(machine, { machine, machineName, migration, outcome, status, ...error });
    } catch (thrown) {
      const interrupted = hasCode(thrown, "cli.interrupted");
      this.#interrupted ||= interrupted;
      const outcome = told.migration === undefined && !interrupted ? "refused" : "goes-on";
      const error = reportOf(thrown);
      this.#results.set(machine, { machine, machineName, ...told, outcome, error });
    }
  }

  async #watch(move: Going, migration: string): Promise<MigrationStatus> {
    return await this.#session.call(
      "migration.watch",
      { migration },
      {
        progress: (progress) => {
          this.#options.onProgress({ machineName: move.name, progress });
          if (!BRINGING.has(progress.state)) this.#brought(move);
        },
      },
    );
  }
}

/** @throws `cli.interrupted`, `cli.failed`; nothing where every machine has arrived */
export function refuseFailures(results: readonly FleetResult[]): void {
  const left = results.filter(({ outcome }) => outcome !== "completed");
  if (left.length === 0) return;
  if (left.some(({ error }) => error?.code === "cli.interrupted")) {
    throw new TesseraError("environment", "cli.interrupted", "what had begun goes on", {
      remedy: 'see "tessera migration ls"; the others have not begun',
    });
  }
  const message = `${left.length} of ${results.length} machines did not move`;
  throw new TesseraError("misuse", "cli.failed", message, {
    remedy: 'the summary has the reason of each; see also "tessera migration show"',
  });
}

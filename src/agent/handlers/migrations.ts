import type { Context, Handlers, Output } from "#api";
import {
  TesseraError,
  type DiskFormat,
  type HotChoice,
  type MemoryMethod,
  type MigrationMode,
  type StorageMethod,
} from "#core";
import { dependenceOf } from "../migrations/hot/dependence.ts";
import { WAITING } from "../migrations/hot/source-role.ts";
import { phaseOf, type ProgressBoard } from "../migrations/progress.ts";
import type { Planned, Route } from "../migrations/planner.ts";
import type { HotSourceRecord, MigrationRecord, SourceRecord } from "../migrations/record.ts";
import type { Parts } from "./parts.ts";

type MigrationOperations = Pick<
  Handlers,
  | "plan.make"
  | "migration.start"
  | "migration.list"
  | "migration.show"
  | "migration.watch"
  | "migration.cancel"
  | "migration.resolve"
>;

interface RouteInput {
  readonly machine: string;
  readonly to?: string;
  readonly bwlimit?: number;
  readonly mode?: MigrationMode;
  readonly memory?: MemoryMethod;
  readonly storage?: StorageMethod;
  readonly at_ms?: number;
  readonly format?: DiskFormat;
}

export function migrationHandlers(parts: Parts): MigrationOperations {
  const { migrations } = parts;
  return {
    "plan.make": async (input) =>
      planView(await migrations.planner.plan(await route(parts, input))),
    "migration.start": async ({ dryRun, ...input }) => {
      const wanted = await route(parts, input);
      if (dryRun === true) return planView(await migrations.planner.plan(wanted));
      const { record, planned } = await migrations.start(wanted);
      return { migration: record.id, ...planView(planned) };
    },
    "migration.list": () =>
      Promise.resolve({ migrations: migrations.list().map((record) => summary(record)) }),
    "migration.show": ({ migration }) => Promise.resolve(view(parts, migrations.find(migration))),
    "migration.watch": ({ migration }, context) => watch(parts, migration, context),
    "migration.cancel": async ({ migration }) => view(parts, await migrations.cancel(migration)),
    "migration.resolve": async ({ migration, outcome }) =>
      view(parts, await migrations.resolve(migration, outcome)),
  };
}

export async function route({ machines }: Parts, input: RouteInput): Promise<Route> {
  const { machine: text, to, bwlimit, at_ms, format } = input;
  const { machine } = await machines.store.resolve(text);
  const hot = hotChoiceOf(input);
  if (hot !== undefined && format !== undefined) throw keepsFormat(text);
  return {
    machine,
    ...(hot === undefined ? {} : { hot }),
    ...(input.mode === "warm" ? { warm: true } : {}),
    ...(to === undefined ? {} : { to }),
    ...(bwlimit === undefined ? {} : { bwlimit }),
    ...(at_ms === undefined ? {} : { at_ms }),
    ...(format === undefined ? {} : { format }),
  };
}

function keepsFormat(machine: string): TesseraError {
  const message = "the format of a disk cannot change while the machine runs";
  return new TesseraError("misuse", "migration.mode-conflict", message, {
    subject: machine,
    remedy: "move it cold or warm, or leave --format away",
  });
}

/** @throws `migration.mode-conflict` (misuse) */
function hotChoiceOf(input: RouteInput): HotChoice | undefined {
  const { machine, mode, memory, storage } = input;
  if (mode === "hot") return { memory: memory ?? "auto", storage: storage ?? "hybrid" };
  if (memory === undefined && storage === undefined) return undefined;
  const message = "how memory and user data travel can be chosen for a hot migration only";
  throw new TesseraError("misuse", "migration.mode-conflict", message, {
    subject: machine,
    remedy: "add --live, or leave --memory and --storage away",
  });
}

/** A plan, and why its destination was chosen where the agent chose it. */
export function planView({ plan, considered }: Planned): Output<"plan.make"> {
  if (considered === undefined) return { plan };
  const views = considered.map(({ cloud, fits, reasons }) => ({
    cloud,
    accepted: fits,
    reason: reasons.join("; "),
  }));
  const reason = views.find(({ cloud }) => cloud === plan.destination)?.reason ?? "";
  return { plan, choice: { cloud: plan.destination, reason, considered: views } };
}

function summary(record: MigrationRecord): Output<"migration.list">["migrations"][number] {
  const phase = phaseOf(record);
  const outcome = outcomeOf(record);
  return {
    migration: record.id,
    machine: record.machine.uuid,
    machineName: record.machine.name,
    role: record.role,
    peer: record.peer,
    state: record.phase,
    ...(phase === undefined ? {} : { phase }),
    ...(outcome === undefined ? {} : { outcome }),
    started_ms: record.started_ms,
    ...(record.ended_ms === undefined ? {} : { ended_ms: record.ended_ms }),
  };
}

function outcomeOf({ phase }: MigrationRecord): "completed" | "aborted" | "fenced" | undefined {
  return phase === "completed" || phase === "aborted" || phase === "fenced" ? phase : undefined;
}

function view(parts: Parts, record: MigrationRecord): Output<"migration.show"> {
  const { board, journal } = parts;
  const bitsPerSecond = board.bitsPerSecond(record.id);
  return {
    ...summary(record),
    streams: board.streams(record),
    ...noteOf(parts, record),
    ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }),
    ...(record.role === "source" ? { plan: record.plan } : {}),
    ...(record.receipt === undefined ? {} : { receipt: record.receipt }),
    ...(record.error === undefined ? {} : { error: record.error }),
    journal: journal.entries(record.id).map(({ phase, ...entry }) => ({ ...entry, state: phase })),
  };
}

/** What depends on another cloud; a machine that is to stop or to leave at a chosen time waits for it. */
function noteOf(
  { board }: Pick<Parts, "board">,
  record: MigrationRecord,
): { readonly note?: string } {
  const dependence = dependenceOf(record, board.streams(record));
  if (dependence !== undefined) return { note: dependence };
  if (record.role !== "source" || !waits(record) || record.at_ms === undefined) return {};
  const how = record.mode === "hot" ? "does not leave" : "is not stopped";
  return { note: `the machine ${how} before ${new Date(record.at_ms).toISOString()}` };
}

function waits(record: SourceRecord | HotSourceRecord): boolean {
  return record.mode === "hot" ? WAITING.includes(record.phase) : record.phase === "serving";
}

/** Snapshots at most this often; the last one comes at once. */
const SNAPSHOT_MS = 500;

async function watch(
  parts: Parts,
  text: string,
  { progress, signal }: Context<"migration.watch">,
): Promise<Output<"migration.watch">> {
  const { migrations, board, world } = parts;
  const { id } = migrations.find(text);
  const over = new AbortController();
  const end = (): void => over.abort();
  const off = board.onChange(id, () => {
    if (outcomeOf(migrations.find(id)) !== undefined) end();
  });
  signal.addEventListener("abort", end, { once: true });
  try {
    for (let told: string | undefined; ;) {
      const changed = nextChange(board, id, over.signal);
      const record = migrations.find(id);
      if (outcomeOf(record) !== undefined || signal.aborted) return view(parts, record);
      const snapshot = snapshotOf(parts, record);
      const now = JSON.stringify(snapshot);
      if (now !== told) progress(snapshot);
      told = now;
      await changed;
      await world.clock.sleep(SNAPSHOT_MS, over.signal).catch(() => undefined);
    }
  } finally {
    end();
    off();
    signal.removeEventListener("abort", end);
  }
}

/** Resolves at the next change, or when all is over. */
async function nextChange(board: ProgressBoard, id: string, over: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => resolve();
  const off = board.onChange(id, done);
  over.addEventListener("abort", done, { once: true });
  try {
    if (!over.aborted) await promise;
  } finally {
    off();
    over.removeEventListener("abort", done);
  }
}

function snapshotOf({ board }: Parts, record: MigrationRecord) {
  const phase = phaseOf(record);
  const bitsPerSecond = board.bitsPerSecond(record.id);
  return {
    migration: record.id,
    state: record.phase,
    streams: board.streams(record),
    ...noteOf({ board }, record),
    ...(phase === undefined ? {} : { phase }),
    ...(bitsPerSecond === undefined ? {} : { bitsPerSecond: Math.round(bitsPerSecond) }),
  };
}

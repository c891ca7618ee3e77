/** What a hot migration is to be, and why one cannot be: asked before anything is copied. */
import { reportOf, TesseraError, type Appliance, type Machine, type Plan } from "#core";
import { compatible, type HotCapabilities, type HotDescription } from "#hypervisor";
import { memoryOutlook } from "#migration";
import type { HotTerms } from "./hot-words.ts";
import type { PlanAnswer } from "./messages.ts";
import type { Route } from "./planner.ts";
import type { MigrationTools } from "./tools.ts";

/**
 * The machine as its hypervisor runs it, where the route is that of a hot migration.
 *
 * @throws `migration.machine-stopped`, `migration.hot-unsuitable` (misuse)
 */
export async function describe(
  { machines }: MigrationTools,
  { machine, hot }: Route,
): Promise<HotDescription | undefined> {
  if (hot === undefined) return undefined;
  const running = machines.running(machine.uuid);
  if (running === undefined) throw notRunning(machine);
  if (machine.format !== undefined && machine.format !== "raw") throw formatted(machine);
  try {
    return running.describe();
  } catch (cause) {
    throw notHot(machine, reportOf(cause).message, cause);
  }
}

/** What both sides agree on. */
export function termsOf(
  { hot }: Pick<Route, "hot">,
  description: HotDescription,
  { hot: there }: Pick<PlanAnswer, "hot">,
): HotTerms {
  const { memory = "auto", storage = "hybrid" } = hot ?? {};
  const postcopy = memory !== "precopy" && (there?.postcopy ?? false);
  return { memory, storage, postcopy, description };
}

/** What is expected of it, and what is to be said beforehand. */
export function plannedOf(
  { memory, storage, postcopy, description }: HotTerms,
  { serviceLevel }: Appliance,
  bitsPerSecond: number,
): { readonly hot: NonNullable<Plan["hot"]>; readonly notes: readonly string[] } {
  const memoryBytes = description.ramBytes;
  const { maySlowDown, downtimeMax_ms } = serviceLevel;
  const bound = downtimeMax_ms === undefined ? {} : { downtimeMax_ms };
  const terms = { memory, canPostcopy: postcopy, maySlowDown, ...bound };
  const { forecast, notes } = memoryOutlook(memoryBytes, bitsPerSecond, terms);
  return { hot: { memory, storage, memoryBytes, forecast }, notes };
}

/** What cannot be undone once it has begun; told in the plan. */
export function warningsOf({ memory, storage, postcopy }: HotTerms): string[] {
  const post =
    "once memory follows the machine (post-copy) there is no way back: if either hypervisor or its " +
    "host dies before all has followed, the machine is started anew from its disk, as after a power cut; " +
    "a link that breaks is waited for, but if either agent ends while the last of it is on its way, the " +
    "machine may stand still until it is stopped by force at the destination, which starts it anew from " +
    "its disk";
  const maybe = `where the machine outruns the link memory may follow it: ${post}`;
  const data =
    "after the switch the machine needs this cloud until its user data block is whole there; what " +
    "it reads of the rest waits while the link is down";
  return [
    ...(memory === "postcopy" ? [post] : memory === "auto" && postcopy ? [maybe] : []),
    ...(storage === "push" || storage === "shared" ? [] : [data]),
  ];
}

/** What the plan cannot know: how much of a copy that is kept there is still as it was. */
export function keptNotes({ storage }: HotTerms, { hot }: PlanAnswer, to: string): string[] {
  if (hot?.kept !== true) return [];
  if (storage === "shared") return [`an earlier copy of the user data block at ${to} goes`];
  return storage === "pull"
    ? [`${to} keeps an earlier copy of the user data block; with --storage pull it is not used`]
    : [
        `${to} keeps an earlier copy of the user data block: only blocks that differ travel, and a ` +
          "migration that is aborted costs that copy",
      ];
}

/**
 * Why this host would not take the machine while it runs.
 *
 * @param there undefined where nothing can arrive here while it runs
 */
export function hotObjections(
  description: HotDescription,
  there: HotCapabilities | undefined,
): string[] {
  if (there === undefined) return ["cannot receive machines that run; move it cold"];
  const verdict = compatible(description, there);
  if (verdict.possible) return [];
  const { reason, nearest } = verdict;
  const remedy = nearest === undefined ? "" : `; it could take it with ${nearest}, once restarted`;
  return [`cannot take it while it runs: ${reason}${remedy}; or move it cold`];
}

/** @throws `migration.postcopy-unsuitable` where it was asked for and cannot be */
export function refusePostcopy({ memory, postcopy }: HotTerms, cloud: string, uuid: string): void {
  if (memory !== "postcopy" || postcopy) return;
  const message = `memory cannot follow a machine to ${cloud} after the switch`;
  throw new TesseraError("misuse", "migration.postcopy-unsuitable", message, {
    subject: uuid,
    remedy: "use --memory precopy or auto, or allow userfaultfd on its host",
  });
}

function notRunning({ name, uuid }: Machine): TesseraError {
  const message = `machine "${name}" does not run, so it cannot be moved while it runs`;
  return new TesseraError("misuse", "migration.machine-stopped", message, {
    subject: uuid,
    remedy: "move it cold, without --live; or start it first",
  });
}

function formatted({ name, uuid, format }: Machine): TesseraError {
  const message = `machine "${name}" cannot leave while it runs: its disk is kept as ${format}`;
  return new TesseraError("misuse", "migration.hot-unsuitable", message, {
    subject: uuid,
    remedy: "move it cold or warm; where it arrives raw, it can move while it runs from then on",
  });
}

function notHot({ name, uuid }: Machine, reason: string, cause: unknown): TesseraError {
  const message = `machine "${name}" cannot leave while it runs: ${reason}`;
  return new TesseraError("misuse", "migration.hot-unsuitable", message, {
    subject: uuid,
    remedy: "move it cold, without --live; or stop and start it, then try again",
    cause,
  });
}

/** Several machines at once: `tessera migrate A B C` and `tessera evacuate`. */
import type { Input } from "#api";
import { TesseraError } from "#core";
import { InvalidArgumentError, type Command } from "commander";
import { refuseFailures, runFleet } from "./fleet-run.ts";
import { fleetProgress, renderFleetPlan, renderFleetResults } from "./render-fleet.ts";
import { leaf, type Session } from "./session.ts";

const PARALLEL_MAX = 64;

export interface FleetCommandOptions {
  readonly parallel?: number;
  readonly detach?: boolean;
  readonly dryRun?: boolean;
}

/** What every migration is started with, but for its machine. */
export type FleetRoute = Omit<Input<"migration.start">, "machine" | "dryRun">;

export function withParallel(command: Command): Command {
  const help = "with several machines: how many at a time (default: 1, the shortest downtime)";
  return command.option("--parallel <count>", help, parseParallel);
}

function parseParallel(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= PARALLEL_MAX) return count;
  throw new InvalidArgumentError(`It is a number from 1 to ${PARALLEL_MAX}.`);
}

/** @param machines all of this cloud when absent */
export async function runFleetCommand(
  session: Session,
  machines: readonly string[] | undefined,
  route: FleetRoute,
  options: FleetCommandOptions,
): Promise<number> {
  if (options.detach === true) throw notDetached();
  const named = machines === undefined ? {} : { machines };
  const plan = await session.call("plan.fleet", { ...route, ...named });
  if (options.dryRun === true || plan.machines.length === 0) {
    session.print(plan, (value) =>
      value.machines.length === 0 ? "no machine is here\n" : renderFleetPlan(value),
    );
    return 0;
  }
  if (!session.json) session.surroundings.output.write(`${renderFleetPlan(plan)}\n`);
  const view = session.progress(fleetProgress());
  const { bwlimit, ...rest } = route;
  const results = await runFleet(session, plan, {
    parallel: options.parallel ?? 1,
    ...(bwlimit === undefined ? {} : { bwlimit }),
    route: rest,
    onProgress: view.show,
  });
  view.end();
  session.print({ machines: results }, (value) => renderFleetResults(value.machines));
  refuseFailures(results);
  return 0;
}

function notDetached(): TesseraError {
  const message = "several machines are led by this command, which has to stay";
  return new TesseraError("misuse", "cli.usage", message, {
    remedy: "leave --detach away, or migrate one machine after the other",
  });
}

/** Without the options of a migration. */
export function evacuateLeaf(root: Command): Command {
  return leaf(root, "evacuate", {
    summary: "move every machine of this cloud away, each where it fits best, or --to one cloud",
    examples: [
      "tessera evacuate --dry-run",
      "tessera evacuate --to inquadro --parallel 4 --bwlimit 200Mbit/s",
    ],
  }).option("--dry-run", "print the plan only");
}

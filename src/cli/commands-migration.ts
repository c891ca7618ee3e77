/** `tessera cloud …`, `tessera plan`, `tessera migrate` and `tessera migration …`. */
import type { Input, MigrationStatus, Output } from "#api";
import {
  DISK_FORMATS,
  TesseraError,
  hasCode,
  parseRate,
  reportOf,
  type DiskFormat,
  type MemoryMethod,
  type StorageMethod,
} from "#core";
import { Option, type Command } from "commander";
import {
  evacuateLeaf,
  runFleetCommand,
  withParallel,
  type FleetCommandOptions,
  type FleetRoute,
} from "./commands-fleet.ts";
import { exitCodeOf } from "./exit-codes.ts";
import { renderCloud, renderClouds } from "./render-lists.ts";
import { renderError } from "./render-error.ts";
import { renderMigration, renderMigrations, renderProgress } from "./render-migration.ts";
import { renderChoice, renderPlan, renderReceipt } from "./render-plan.ts";
import { act, leaf, type Bench, type Session } from "./session.ts";
import { parseTime } from "./values.ts";

export function addCloudCommands(root: Command, bench: Bench): void {
  const cloud = root.command("cloud").description("clouds of the federation");
  const list = leaf(cloud, "ls", {
    summary: "clouds in the federation's room, with the offers they announce",
    examples: ["tessera cloud ls"],
  });
  act(bench, list, async (session) => {
    session.print(await session.call("cloud.list", {}), ({ clouds }) => renderClouds(clouds));
  });
  const show = leaf(cloud, "show <cloud>", {
    summary: "one cloud's offer, confirmed by the cloud itself",
    examples: ["tessera cloud show inquadro"],
  });
  act(bench, show, async (session, [name = ""]) => {
    const result = await session.call("cloud.show", { cloud: name });
    session.print(result, (value) => renderCloud(value.cloud, value.offer));
  });
}

interface RouteOptions {
  readonly to?: string;
  readonly bwlimit?: number;
  readonly live?: boolean;
  readonly warm?: boolean;
  readonly memory?: MemoryMethod;
  readonly storage?: StorageMethod;
  readonly format?: DiskFormat;
  /** Milliseconds since the Unix epoch. */
  readonly at?: number;
}

function withRoute({ surroundings }: Bench, command: Command): Command {
  return command
    .option("--to <cloud>", "the destination; without it the agent chooses and says why")
    .option("--bwlimit <rate>", "bandwidth limit, for instance 50Mbit/s", parseRate)
    .option(
      "--at <time>",
      "neither stop nor switch the machine before: 03:00, +2min, 2026-11-30T03:00Z",
      (text) => parseTime(text, surroundings.now()),
    )
    .option("--live", "move it while it runs: its guest notices only a short pause")
    .addOption(
      new Option(
        "--warm",
        "copy its user data while it runs, then stop it for a short time",
      ).conflicts("live"),
    )
    .addOption(
      new Option("--memory <method>", "with --live: when memory moves (default: auto)").choices([
        "precopy",
        "postcopy",
        "auto",
      ]),
    )
    .addOption(
      new Option(
        "--storage <method>",
        "with --live: when the user data block moves (default: hybrid); shared: both clouds reach it",
      ).choices(["hybrid", "push", "pull", "shared"]),
    )
    .addOption(
      new Option(
        "--format <format>",
        "of its disk at the destination, not with --live (default: the destination's own)",
      ).choices(DISK_FORMATS),
    );
}

function routeOf(machine: string, options: RouteOptions): Input<"plan.make"> {
  const { to, bwlimit, at, live, warm, memory, storage, format } = options;
  return {
    machine,
    ...(live === true ? { mode: "hot" } : {}),
    ...(warm === true ? { mode: "warm" } : {}),
    ...(memory === undefined ? {} : { memory }),
    ...(storage === undefined ? {} : { storage }),
    ...(format === undefined ? {} : { format }),
    ...(to === undefined ? {} : { to }),
    ...(bwlimit === undefined ? {} : { bwlimit }),
    ...(at === undefined ? {} : { at_ms: at }),
  };
}

export function addMigrateCommands(root: Command, bench: Bench): void {
  const plan = leaf(root, "plan <machine>", {
    summary: "what a migration would move, component by component, before anything moves",
    examples: [
      "tessera plan web-1 --to inquadro",
      "tessera plan web-1 --bwlimit 50Mbit/s",
      "tessera plan web-1 --to inquadro --live",
    ],
  });
  act<RouteOptions>(bench, withRoute(bench, plan), async (session, [name = ""], options) => {
    const result = await session.call("plan.make", routeOf(name, options));
    session.print(result, (value) => renderIntent(value, name));
  });
  const migrate = leaf(root, "migrate <machine...>", {
    summary: "move machines to another cloud",
    examples: [
      "tessera migrate web-1 --to inquadro",
      "tessera migrate web-1 --to inquadro --bwlimit 50Mbit/s --detach",
      "tessera migrate web-1 --to inquadro --live",
      "tessera migrate web-1 --to inquadro --format vmdk",
      "tessera migrate web-1 --dry-run    (same as tessera plan)",
      "tessera migrate web-1 web-2 db-1 --to inquadro --parallel 2",
    ],
  })
    .option("--detach", "do not wait; print the migration's id")
    .option("--dry-run", "print the plan only");
  act<MigrateOptions>(bench, withParallel(withRoute(bench, migrate)), (session, words, options) => {
    const names = words.filter((word) => word !== undefined);
    const [name = ""] = names;
    return names.length > 1
      ? runFleetCommand(session, names, fleetRouteOf(options), options)
      : runMigrate(session, name, options);
  });
  const evacuate = withParallel(withRoute(bench, evacuateLeaf(root)));
  act<MigrateOptions>(bench, evacuate, (session, _words, options) =>
    runFleetCommand(session, undefined, fleetRouteOf(options), options),
  );
}

interface MigrateOptions extends RouteOptions, FleetCommandOptions {}

function fleetRouteOf(options: RouteOptions): FleetRoute {
  const { machine: _machine, ...route } = routeOf("", options);
  return route;
}

function renderIntent({ plan, choice }: Output<"migration.start">, machineName: string): string {
  const chosen = choice === undefined ? "" : renderChoice(choice);
  return chosen + (plan === undefined ? "" : renderPlan(plan, machineName));
}

async function runMigrate(session: Session, name: string, options: MigrateOptions) {
  const dryRun = options.dryRun === true ? { dryRun: true } : {};
  const started = await session.call("migration.start", { ...routeOf(name, options), ...dryRun });
  const { migration } = started;
  if (migration === undefined) {
    session.print(started, (value) => renderIntent(value, name));
    return 0;
  }
  if (options.detach === true) {
    const last = `migration ${migration}\nwatch it by: tessera migration watch ${migration}\n`;
    session.print(started, (value) => `${renderIntent(value, name)}${last}`);
    return 0;
  }
  const intent = renderIntent(started, name);
  if (!session.json && intent !== "") session.surroundings.output.write(`${intent}\n`);
  session.remark(`migration ${migration}\n`);
  return watch(session, migration);
}

/** Shows progress until the migration ends, then its receipt, or why it failed. */
async function watch(session: Session, migration: string): Promise<number> {
  const view = session.progress(renderProgress);
  let status: MigrationStatus;
  try {
    status = await session.call("migration.watch", { migration }, { progress: view.show });
  } catch (error) {
    if (hasCode(error, "cli.interrupted")) throw goesOn(migration);
    throw error;
  } finally {
    view.end();
  }
  session.print(status, renderEnd);
  if (status.outcome === "completed") return 0;
  const report = status.error ?? reportOf(failed(status));
  if (!session.json) session.surroundings.errorOutput.write(renderError(report));
  return exitCodeOf(report);
}

function renderEnd(status: MigrationStatus): string {
  const { migration, machineName, receipt, plan, outcome, state } = status;
  if (receipt !== undefined && outcome === "completed")
    return renderReceipt(receipt, machineName, plan);
  return `migration ${migration} of ${machineName}: ${outcome ?? state}\n`;
}

function failed({ migration, outcome, state }: MigrationStatus): TesseraError {
  const message = `the migration ended as ${outcome ?? state}`;
  return new TesseraError("misuse", "cli.failed", message, {
    subject: migration,
    remedy: `see why by: tessera migration show ${migration}`,
  });
}

function goesOn(migration: string): TesseraError {
  return new TesseraError("environment", "cli.interrupted", "the migration goes on", {
    subject: migration,
    remedy: `tessera migration watch ${migration}, or tessera migration cancel ${migration}`,
  });
}

export function addMigrationCommands(root: Command, bench: Bench): void {
  const migration = root.command("migration").description("migrations, going on and ended");
  const list = leaf(migration, "ls", {
    summary: "migrations that this cloud takes or took part in, newest first",
    examples: ["tessera migration ls"],
  });
  act(bench, list, async (session) => {
    const result = await session.call("migration.list", {});
    session.print(result, ({ migrations }) => renderMigrations(migrations));
  });
  const show = leaf(migration, "show <migration>", {
    summary: "one migration, with plan, receipt and journal",
    examples: ["tessera migration show 1b4e28ba-2fa1-41d2-883f-0016d3cca427 --json"],
  });
  act(bench, show, async (session, [id = ""]) => {
    session.print(await session.call("migration.show", { migration: id }), renderMigration);
  });
  const watching = leaf(migration, "watch <migration>", {
    summary: "show progress until the migration ends",
    examples: ["tessera migration watch 1b4e28ba-2fa1-41d2-883f-0016d3cca427"],
  });
  act(bench, watching, (session, [id = ""]) => watch(session, id));
  const cancel = leaf(migration, "cancel <migration>", {
    summary: "abort a migration; refused once the machine has been handed over",
    examples: ["tessera migration cancel 1b4e28ba-2fa1-41d2-883f-0016d3cca427"],
  });
  act(bench, cancel, async (session, [id = ""]) => {
    const status = await session.call("migration.cancel", { migration: id });
    session.print(status, renderEnd);
  });
  addResolve(migration, bench);
}

interface ResolveOptions {
  readonly keepHere?: boolean;
  readonly giveUpHere?: boolean;
  readonly fenced?: boolean;
}

const RISK = `
It is for a cloud that never comes back. Until the two sides agree, the machine waits; whoever
decides alone must be certain that the other side does not run it and will not, or two copies run
and write different data. --fenced is your word that the other side is off, cut off, or wiped.`;

function addResolve(migration: Command, bench: Bench): void {
  const resolve = leaf(migration, "resolve <migration>", {
    summary: "decide a migration whose other side never comes back",
    examples: [
      "tessera migration resolve 1b4e28ba-2fa1-41d2-883f-0016d3cca427 --keep-here --fenced",
    ],
  })
    .option("--keep-here", "the machine is this cloud's")
    .option("--give-up-here", "the machine is the other cloud's; this copy is never started")
    .option("--fenced", "the other side has been fenced")
    .addHelpText("after", RISK);
  act<ResolveOptions>(bench, resolve, async (session, [id = ""], options) => {
    const outcome = outcomeOf(options);
    const input = { migration: id, outcome, fenced: true } as const;
    session.print(await session.call("migration.resolve", input), renderEnd);
  });
}

function outcomeOf({ keepHere, giveUpHere, fenced }: ResolveOptions) {
  if ((keepHere === true) === (giveUpHere === true)) {
    throw new TesseraError("misuse", "cli.usage", "give one of --keep-here and --give-up-here");
  }
  if (fenced !== true) {
    throw new TesseraError("misuse", "cli.not-fenced", "the other side must be fenced first", {
      remedy: "make sure that it cannot run the machine, then say so by --fenced",
    });
  }
  return keepHere === true ? "keep-here" : "give-up-here";
}

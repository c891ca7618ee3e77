/**
 * `make demo`: two clouds on this machine, real Debian machines, three cold migrations, or with
 * `--live` two of a machine that goes on running.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { formatBytes, formatRate, parseRate } from "#core";
import { DEMO, endDemo, startClouds, type Demo, type DemoCloud } from "./clouds.ts";
import { MACHINE, playLive } from "./live.ts";
import { DATABASE, WEB, type DemoMachine } from "./machines.ts";
import { move, type Report } from "./migrate.ts";
import { headline, say, tessera } from "./screen.ts";
import { buildComponents } from "./build.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../examples");

async function boot(cloud: DemoCloud, machine: DemoMachine): Promise<void> {
  const files = machine.files.map(({ path, text }) => ({
    path,
    contentBase64: Buffer.from(text).toString("base64"),
  }));
  const { name, appliance } = machine;
  await cloud.api.call("machine.create", { name, appliance, files });
  const begin = performance.now();
  await cloud.api.call("machine.start", { machine: name });
  say(
    `${name} has booted at ${cloud.name} in ${((performance.now() - begin) / 1000).toFixed(1)} s`,
  );
}

function summarise(reports: readonly Report[]): void {
  headline("Summary");
  const rows = reports.map((report) => {
    const { seconds, monolithic } = report;
    const moved_s = (seconds["components"] ?? 0) + (seconds["userData"] ?? 0);
    return [
      report.case.padEnd(8),
      `${report.machine} ${report.from} -> ${report.to}`.padEnd(30),
      formatBytes(report.bytes_on_link).padStart(9),
      `${moved_s.toFixed(1)} s`.padStart(8),
      formatBytes(monolithic.bytes).padStart(10),
      `${monolithic.transfer_s.toFixed(1)} s`.padStart(8),
    ].join("  ");
  });
  const header = [
    "case".padEnd(8),
    "move".padEnd(30),
    " composed",
    "transfer",
    "monolithic",
    "transfer",
  ];
  process.stdout.write(`${[header.join("  "), ...rows].join("\n")}\n`);
}

function report(reports: readonly Report[]): void {
  summarise(reports);
  const file = join(DEMO, "report.json");
  writeFileSync(file, `${JSON.stringify(reports, null, 2)}\n`);
  say(`figures written to ${file.slice(resolve(DEMO, "../..").length + 1)}`);
}

async function play(demo: Demo, bitsPerSecond: number): Promise<Report[]> {
  const { messina, inquadro } = demo;
  const shared = { demo, bitsPerSecond };
  await tessera(messina.directory, ["cloud", "ls"]);
  for (const { appliance } of [WEB, DATABASE]) {
    const fileName = join(EXAMPLES, "appliances", `${appliance}.yaml`);
    await messina.api.call("appliance.add", { fileName, text: readFileSync(fileName, "utf8") });
  }
  await boot(messina, WEB);
  const first = await move("1. Worst case: inquadro holds nothing", {
    ...shared,
    from: messina,
    to: inquadro,
    machine: WEB,
    known: new Map(),
  });
  await boot(messina, DATABASE);
  const second = await move("2. Average case: kernel and OS are known, the program is not", {
    ...shared,
    from: messina,
    to: inquadro,
    machine: DATABASE,
    known: new Map(),
  });
  const third = await move("3. Best case: the web machine goes back, only user data moves", {
    ...shared,
    from: inquadro,
    to: messina,
    machine: WEB,
    known: first.records,
  });
  return [first.report, second.report, third.report];
}

function next(keep: boolean, machine: string): void {
  headline("What to try next");
  const lines = keep
    ? [
        "The clouds are still running (make clean ends and removes them):",
        `  export TESSERA_AGENT=${join("build", "demo", "messina", "agent.sock")}`,
        "  bin/tessera machine ls",
        "  bin/tessera migration ls",
        `  bin/tessera migrate ${machine} --to inquadro`,
        "  bin/tessera component ls",
        `  bin/tessera --help`,
      ]
    : [
        "  make demo ARGS=--live      a machine that goes on running while it moves",
        "  make demo ARGS=--keep      the same, and the clouds go on running for you to try commands",
        "  make demo RATE=10Mbit/s    over a slower link",
        "  bin/tessera --help         every command",
        "  make clean                 removes all of it",
      ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rate: { type: "string", default: "50Mbit/s" },
      keep: { type: "boolean", default: false },
      live: { type: "boolean", default: false },
    },
  });
  const bitsPerSecond = parseRate(values.rate);
  mkdirSync(DEMO, { recursive: true });
  headline(`Two clouds, messina and inquadro, over a link of ${formatRate(bitsPerSecond)}`);
  const demo = await startClouds(values.rate);
  say("two Prosody servers, two agents, one room: both clouds see each other");
  try {
    await buildComponents(demo.messina, demo.reused);
    if (values.live) await playLive(demo);
    else report(await play(demo, bitsPerSecond));
    next(values.keep, values.live ? MACHINE : WEB.name);
  } finally {
    if (!values.keep) await endDemo();
  }
}

await main();

/** The agent's program: `init`, `run`, `card` and `trust`. The only place with real adapters. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { reportOf, TesseraError, type LogLevel, type World } from "#core";
import { encodeCard, parseCard } from "#federation";
import { lineLog, readTextSync, realWorld } from "#system";
import { startAgent } from "./agent.ts";
import { cardOf, initCloud, loadCloud } from "./cloud.ts";
import { journalFault, type FaultTools } from "./faults.ts";
import { openPeers } from "./peers.ts";

const CARD_BYTES_MAX = 2 ** 18;

const OPTIONS = {
  name: { type: "string" },
  domain: { type: "string" },
  region: { type: "string" },
  room: { type: "string" },
  host: { type: "string" },
  advertise: { type: "string" },
  "client-port": { type: "string" },
  "server-port": { type: "string" },
  "data-port": { type: "string" },
  "advertise-data-port": { type: "string" },
  cpus: { type: "string" },
  memory: { type: "string" },
  link: { type: "string" },
} as const;

type Values = { readonly [name in keyof typeof OPTIONS]?: string };

function numbered(values: Values, name: keyof typeof OPTIONS): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw usage(`--${name} takes a whole number, not "${text}"`);
}

function usage(message: string): TesseraError {
  return new TesseraError("misuse", "cli.usage", message, {
    remedy: "see tessera agent --help",
  });
}

function defined<T extends object>(members: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}

async function init(world: World, root: string, values: Values): Promise<void> {
  const { name, domain, region, room, host, advertise, memory, link } = values;
  if (name === undefined || domain === undefined) throw usage("--name and --domain are needed");
  const cloud = await initCloud(world, root, {
    name,
    domain,
    ...defined({ region, room, host, advertise, memory, link }),
    ...defined({
      clientPort: numbered(values, "client-port"),
      serverPort: numbered(values, "server-port"),
      dataPort: numbered(values, "data-port"),
      advertiseDataPort: numbered(values, "advertise-data-port"),
      cpus: numbered(values, "cpus"),
    }),
  });
  process.stdout.write(`cloud "${cloud.config.cloud}" made in ${root}\n`);
}

async function card(world: World, root: string): Promise<void> {
  process.stdout.write(`${encodeCard(cardOf(await loadCloud(world, root)))}\n`);
}

async function trust(world: World, root: string, file: string | undefined): Promise<void> {
  if (file === undefined) throw usage("the file of the card is missing");
  const cloud = await loadCloud(world, root);
  const bytes = await world.files.readFile(file, CARD_BYTES_MAX);
  const peer = parseCard(Buffer.from(bytes).toString("utf8"));
  const peers = await openPeers({
    world,
    directory: cloud.layout.peers,
    own: cardOf(cloud),
    changed: () => Promise.resolve(),
  });
  await peers.add(peer);
  process.stdout.write(`trusting ${peer.cloud}\n`);
}

const FAULT_TOOLS: FaultTools = {
  kill: () => void process.kill(process.pid, "SIGKILL"),
  read: readTextSync,
};

function versionOf(packageText = "{}"): string {
  const { version } = JSON.parse(packageText) as { readonly version?: string };
  return version ?? "unknown";
}

async function run(world: World, root: string): Promise<void> {
  const hooks = journalFault(process.env["TESSERA_FAULT"], FAULT_TOOLS);
  const accelerator = process.env["TESSERA_ACCELERATOR"];
  const agent = await startAgent(world, root, {
    hooks,
    version: versionOf(readTextSync(join(import.meta.dirname, "../../package.json"))),
    ...(accelerator === "kvm" || accelerator === "tcg" ? { accelerator } : {}),
  });
  process.stdout.write(`agent of cloud "${agent.cloud}" is running; socket ${agent.socket}\n`);
  const stop = (): void => void agent.stop();
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  await agent.stopped;
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
}

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = parse(args);
  const [command, root, file] = positionals;
  if (root === undefined) throw usage("the cloud's directory is missing");
  const level = (process.env["TESSERA_LOG"] ?? "info") as LogLevel;
  const world = realWorld(lineLog((line) => void process.stderr.write(line), level));
  if (command === "init") return await init(world, root, values);
  if (command === "run") return await run(world, root);
  if (command === "card") return await card(world, root);
  if (command === "trust") return await trust(world, root, file);
  throw usage(`"${command ?? ""}" is not a command of the agent`);
}

try {
  await main(process.argv.slice(2));
  process.exit(0);
} catch (error) {
  const { code, message, subject, remedy, fault } = reportOf(error);
  process.stderr.write(`error ${code}: ${message}\n`);
  if (subject !== undefined) process.stderr.write(`  about: ${subject}\n`);
  if (remedy !== undefined) process.stderr.write(`  what to do: ${remedy}\n`);
  if (fault === "bug" && error instanceof Error) process.stderr.write(`${error.stack ?? ""}\n`);
  process.exit(fault === "misuse" ? 2 : 1);
}

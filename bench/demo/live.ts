/** `make demo ARGS=--live`: a web page and a database keep answering while their machine moves. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatBytes, type SignedReceipt } from "#core";
import { Client, type Service, type Silence } from "./client.ts";
import { DEMO, until, type Demo, type DemoCloud } from "./clouds.ts";
import { DATABASE, PAGE, WEB } from "./machines.ts";
import { check, receiptsAgree } from "./migrate.ts";
import { guestsBelow } from "./processes.ts";
import { headline, say, tessera } from "./screen.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../examples/appliances");
const APPLIANCE = "web-database";
export const MACHINE = "shop";
const SERVICES: readonly Service[] = [
  { name: "web page", port: 80, question: "GET / HTTP/1.1\r\nHost: shop\r\n\r\n", answer: PAGE },
  { name: "database", port: 6379, question: "PING\r\n", answer: "+PONG\r\n" },
];
const ANSWERS_BEFORE = 100;
/** Once all is over, so that a silence that follows is seen, too. */
const ANSWERS_AFTER = 300;
const BETWEEN_RECORDS_MS = 20;

/** Of the migration, in milliseconds since the Unix epoch. */
interface Moments {
  /** The machine stood still at the source. */
  readonly off_ms: number;
  /** It went on at the destination. */
  readonly on_ms: number;
  /** All of its disk had come. */
  readonly whole_ms: number;
}

/** One object of `build/demo/live.json`. */
interface LiveReport {
  readonly from: string;
  readonly to: string;
  readonly bytes_on_link: number;
  readonly seconds: number;
  readonly downtime_ms: number;
  readonly moments: Moments;
  readonly silences: readonly Silence[];
  readonly records_acknowledged: number;
  readonly records_found: number;
}

async function boot(cloud: DemoCloud): Promise<void> {
  const fileName = join(EXAMPLES, `${APPLIANCE}.yaml`);
  await cloud.api.call("appliance.add", { fileName, text: readFileSync(fileName, "utf8") });
  const files = [...WEB.files, ...DATABASE.files].map(({ path, text }) => ({
    path,
    contentBase64: Buffer.from(text).toString("base64"),
  }));
  await cloud.api.call("machine.create", { name: MACHINE, appliance: APPLIANCE, files });
  const begin = performance.now();
  await cloud.api.call("machine.start", { machine: MACHINE });
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  say(`${MACHINE}, a web page and a database, has booted at ${cloud.name} in ${seconds} s`);
}

async function portAt(cloud: DemoCloud): Promise<number> {
  const { hostPorts } = await cloud.api.call("machine.show", { machine: MACHINE });
  return hostPorts["redis"] ?? 0;
}

/** Writes records to the database, wherever it runs, until it is told to stop. */
class Records {
  readonly acknowledged = new Map<string, string>();
  readonly #clouds: readonly DemoCloud[];
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(clouds: readonly DemoCloud[], first: number) {
    this.#clouds = clouds;
    this.#done = this.#run(first);
  }

  async #run(first: number): Promise<void> {
    for (let number = first; !this.#stopped; number += 1) {
      const [key, value] = [`live-${number}`, `value ${number}`];
      const cloud = this.#clouds[number % this.#clouds.length];
      if (cloud === undefined) return;
      try {
        await DATABASE.write(await portAt(cloud), key, value);
        this.acknowledged.set(key, value);
      } catch {
        // It is not there, or moves at this moment: what was not acknowledged does not count.
      }
      await sleep(BETWEEN_RECORDS_MS);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }
}

interface LiveMove {
  readonly demo: Demo;
  readonly from: DemoCloud;
  readonly to: DemoCloud;
  readonly clients: readonly Client[];
  readonly known: Map<string, string>;
}

async function proven(move: LiveMove): Promise<{ signed: SignedReceipt; found: number }> {
  const { from, to, known } = move;
  const signed = await receiptsAgree(from, to);
  const { machine } = signed.receipt;
  const runsAt = ({ directory }: DemoCloud): number =>
    guestsBelow(join(directory, "machines", machine)).length;
  check(runsAt(from) === 0, `no process of the machine runs at ${from.name}`);
  check(runsAt(to) === 1, `one process of the machine runs at ${to.name}`);
  const port = await portAt(to);
  let found = 0;
  for (const [key, value] of known) if ((await DATABASE.read(port, key)) === value) found += 1;
  check(found === known.size, `all ${known.size} records that were acknowledged are there`);
  return { signed, found };
}

/** When the event of the newest migration was, as the cloud's journal has it. */
async function at({ api }: DemoCloud, event: string): Promise<number> {
  const { migrations } = await api.call("migration.list", {});
  const migration = migrations[0]?.migration ?? "";
  const { journal } = await api.call("migration.show", { migration });
  return journal.find((entry) => entry.event === event)?.at_ms ?? Number.NaN;
}

async function momentsOf({ from, to }: LiveMove): Promise<Moments> {
  const [off_ms, on_ms] = [await at(from, "paused"), await at(to, "resumed")];
  return { off_ms, on_ms, whole_ms: await at(to, "whole") };
}

/** How a moment lies to the switch. */
function placed(at_ms: number, { off_ms, on_ms, whole_ms }: Moments): string {
  const after = (from_ms: number): string => `${(at_ms - from_ms).toFixed(0)} ms after`;
  if (at_ms < off_ms) return `${(off_ms - at_ms).toFixed(0)} ms before it stood still`;
  if (at_ms < on_ms) return `${after(off_ms)} it stood still`;
  return at_ms < whole_ms ? `${after(on_ms)} it went on` : `${after(whole_ms)} all had come`;
}

/** The services have answered so often since. */
async function answered(clients: readonly Client[], times: number): Promise<void> {
  const wanted = clients.map((client) => client.answers + times);
  await until("both services answer", () =>
    Promise.resolve(clients.every(({ answers }, index) => answers >= (wanted[index] ?? 0))),
  );
}

async function moveLive(title: string, move: LiveMove): Promise<LiveReport> {
  const { demo, from, to, clients, known } = move;
  headline(title);
  await answered(clients, ANSWERS_BEFORE);
  for (const client of clients) client.begin();
  const records = new Records([from, to], known.size);
  const [bytes, begin] = [await demo.linkBytes(), performance.now()];
  await tessera(from.directory, ["migrate", MACHINE, "--to", to.name, "--live"]);
  const seconds = (performance.now() - begin) / 1000;
  const bytes_on_link = (await demo.linkBytes()) - bytes;
  await answered(clients, ANSWERS_AFTER);
  const silences = clients.map((client) => client.told());
  await records.stop();
  for (const [key, value] of records.acknowledged) known.set(key, value);
  const { signed, found } = await proven(move);
  const { downtime_ms } = signed.receipt;
  say(`the machine stood still for ${downtime_ms.toFixed(0)} ms, says the receipt`);
  const moments = await momentsOf(move);
  for (const { service, answers, longest_ms, longestFrom_ms, longestTo_ms } of silences) {
    say(`the ${service} gave ${answers} answers, at most ${longest_ms.toFixed(0)} ms apart:`);
    say(`  from ${placed(longestFrom_ms, moments)} to ${placed(longestTo_ms, moments)}`);
  }
  const heldUp_ms = Math.max(...silences.map((silence) => silence.heldUp_ms));
  say(`(who asked was itself held up for at most ${heldUp_ms.toFixed(0)} ms)`);
  say(`${formatBytes(bytes_on_link)} on the link in ${seconds.toFixed(1)} s`);
  const names = { from: from.name, to: to.name };
  const figures = { bytes_on_link, seconds, downtime_ms, moments, silences };
  return { ...names, ...figures, records_acknowledged: known.size, records_found: found };
}

/** Boots the machine at `messina` and moves it to `inquadro` and back while it runs. */
export async function playLive(demo: Demo): Promise<void> {
  const { messina, inquadro } = demo;
  await boot(messina);
  const clouds = [messina.directory, inquadro.directory];
  const clients = SERVICES.map((service) => new Client(service, clouds));
  try {
    const shared = { demo, clients, known: new Map<string, string>() };
    const there = await moveLive("1. Live to inquadro, which holds nothing", {
      ...shared,
      from: messina,
      to: inquadro,
    });
    const back = await moveLive("2. Live back to messina, which holds all but what has changed", {
      ...shared,
      from: inquadro,
      to: messina,
    });
    const file = join(DEMO, "live.json");
    writeFileSync(file, `${JSON.stringify([there, back], null, 2)}\n`);
    say("figures written to build/demo/live.json");
  } finally {
    for (const client of clients) client.stop();
  }
}

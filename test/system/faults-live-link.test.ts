/**
 * Hot migrations whose data link breaks, or falls silent, at the places where memory or the user data
 * block is on its way; and ones that are cancelled at every phase before the hand-over. Each ends by
 * itself with one whole machine. `FAULTS=all` runs the whole matrix.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, type TestContext } from "node:test";
import type { MemoryMethod, StorageMethod } from "#core";
import { startRelay, type Relay } from "../../src/transfer/relay.suite.ts";
import { chosen, expectEnd, Scene } from "../support/fault-scene.ts";
import { until, type TestCloud } from "../support/federation.ts";
import type { Journey, Outcome, Role } from "../support/journey.ts";

/** So slow that a link that is cut is cut in the middle. */
const SLOW = 4e6;
/** From the token on by post-copy, so that memory is still to follow when the link breaks. */
const CRAWL = 4e5;
/** Shorter, and longer, than the silence after which the data plane takes a link for dead. */
const SHORT_MS = 2_000;
const LONG_MS = 20_000;

const relays = new Map<string, Relay>();
const opened: Relay[] = [];

/** All that leaves a cloud goes through a relay of its own. */
const scene = new Scene({
  prepare: async (cloud) => {
    const relay = await startRelay({ target: { host: "127.0.0.1", port: cloud.dataPort } });
    relays.set(cloud.name, relay);
    opened.push(relay);
    cloud.configure((config) => {
      const data = config["data"] as Record<string, unknown>;
      data["advertise"] = [{ host: "127.0.0.1", port: relay.port }];
    });
  },
});
after(() => Promise.all(opened.map((relay) => relay.close())));

type Harm = "cut" | "cut again and again" | "silent for a short time" | "silent for a long time";

interface Case {
  readonly role: Role;
  readonly phase: string;
  readonly memory: MemoryMethod;
  readonly storage: StorageMethod;
  readonly harm: Harm;
}

const PLACES = [
  { role: "source", phase: "copying", memory: "auto", storage: "push" },
  { role: "source", phase: "moving", memory: "precopy", storage: "pull" },
  { role: "source", phase: "switching", memory: "precopy", storage: "hybrid" },
  { role: "destination", phase: "filling", memory: "precopy", storage: "pull" },
  { role: "source", phase: "moving", memory: "postcopy", storage: "hybrid" },
  { role: "source", phase: "handed-over", memory: "postcopy", storage: "hybrid" },
  { role: "destination", phase: "filling", memory: "postcopy", storage: "pull" },
] as const;
const HARMS: readonly Harm[] = ["cut", "silent for a short time", "silent for a long time"];

const CASES: readonly Case[] = [
  ...PLACES.flatMap((place) => HARMS.map((harm) => ({ ...place, harm }))),
  {
    role: "destination",
    phase: "filling",
    memory: "postcopy",
    storage: "pull",
    harm: "cut again and again",
  },
];
/** After the hand-over there is one end. */
const ENDS: Readonly<Record<string, readonly Outcome[]>> = { filling: ["completed"] };
const CUTS = 5;
/** What goes over a link that crawls before it is cut again. */
const BETWEEN_BYTES = 10_000;

async function harm(link: Relay, how: Harm): Promise<void> {
  if (how === "cut") return link.cutAll();
  if (how === "cut again and again") return await cutOften(link);
  link.setFrozen(true);
  const silence_ms = how === "silent for a long time" ? LONG_MS : SHORT_MS;
  await new Promise((resolve) => setTimeout(resolve, silence_ms));
  link.setFrozen(false);
}

/** Each time in the middle of whatever goes over it. */
async function cutOften(link: Relay): Promise<void> {
  for (let cut = 1; cut < CUTS; cut++) {
    const before = link.bytes().down;
    link.cutAll();
    await until("bytes go over the link again", () =>
      Promise.resolve(link.bytes().down > before + BETWEEN_BYTES ? true : undefined),
    );
  }
  link.cutAll();
}

/** Waits until a side of the migration is in a phase, or has been. */
async function reached(journey: Journey, id: string, role: Role, phase: string): Promise<void> {
  await until(`the ${role} is ${phase}`, async () => {
    const shown = await journey.show(journey.side(role), id);
    return shown?.journal.some(({ state }) => state === phase) === true ? true : undefined;
  });
}

/** How often a tunnel went on over another connection, as its destination tells. */
function timesGoneOn({ logFile }: TestCloud): number {
  return readFileSync(logFile, "utf8").split("a tunnel's connection broke").length - 1;
}

/**
 * The hypervisors did not learn of the link that broke, so the machine was not lost with it; as its
 * source tells, where it is away now.
 */
async function assertKept(journey: Journey, id: string): Promise<string> {
  const { home, away } = journey;
  const receipt = (await journey.show(home, id))?.receipt?.receipt;
  const lines = readFileSync(away.logFile, "utf8").split("\n");
  const mended = lines.some((line) => line.includes("over another link") && line.includes(id));
  assert.ok(!mended, "the hypervisors saw the cut");
  assert.equal(receipt?.hot?.restarted, undefined);
  return `${receipt?.hot?.memory.method}, downtime ${receipt?.downtime_ms} ms`;
}

async function disturb(
  journey: Journey,
  { role, phase, harm: how, ...ways }: Case,
  context: TestContext,
): Promise<void> {
  const link = relays.get(journey.home.name) ?? assert.fail("no relay");
  const crawls = ways.memory === "postcopy" && phase !== "moving";
  const { away: destination } = journey;
  const before = timesGoneOn(destination);
  journey.away.faults("hold:destination:composing");
  try {
    const id = await journey.depart({ mode: "hot", ...ways });
    assert.ok(id !== undefined);
    await reached(journey, id, "destination", "composing");
    link.setRate(SLOW);
    if (crawls) {
      journey.away.faults("hold:destination:armed");
      await reached(journey, id, "destination", "armed");
      link.setRate(CRAWL);
    }
    journey.away.faults();
    await reached(journey, id, role, phase);
    await harm(link, how);
    link.setRate(undefined);
    const outcome = await journey.settle(id);
    await journey.assertWhole(id, outcome);
    assert.ok((ENDS[phase] ?? ["completed", "aborted"]).includes(outcome), outcome);
    if (phase === "filling") context.diagnostic(await assertKept(journey, id));
    context.diagnostic(`${outcome}; the tunnel went on ${timesGoneOn(destination) - before} times`);
  } finally {
    link.setFrozen(false);
    link.setRate(undefined);
  }
}

const isOften = ({ harm: how, phase, memory }: Case): boolean =>
  how === "cut" && phase === "filling" && memory === "precopy";

for (const one of chosen(CASES, isOften)) {
  const { role, phase, memory, storage, harm: how } = one;
  scene.test(
    `hot, ${memory} and ${storage}: the link is ${how} while the ${role} is ${phase}`,
    async (journey, context) => {
      await disturb(journey, one, context);
    },
  );
}

const CANCELS: readonly (readonly [Role, string])[] = [
  ["source", "proposed"],
  ["destination", "accepted"],
  ["source", "serving"],
  ["destination", "composing"],
  ["source", "copying"],
  ["destination", "copying"],
  ["source", "moving"],
  ["destination", "listening"],
  ["source", "switching"],
  ["destination", "arming"],
  ["destination", "armed"],
];

for (const [role, phase] of chosen(CANCELS, (_, index) => index === 8)) {
  scene.test(`hot, cancelled at the ${role} while it is ${phase}`, async (journey, context) => {
    const side = journey.side(role);
    side.faults(`hold:${role}:${phase}`);
    const id = await journey.depart({ mode: "hot" });
    assert.ok(id !== undefined);
    await reached(journey, id, role, phase);
    const { error } = await side.call("migration.cancel", { migration: id });
    side.faults();
    assert.equal(error?.code, "migration.cancelled");
    await expectEnd(journey, id, "aborted");
    context.diagnostic("aborted");
  });
}

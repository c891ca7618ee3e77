/**
 * Agents that die by `kill -9` at every phase of a migration, on either side, just before and just
 * after the phase is journalled. Whatever dies, the migration ends by itself with one whole
 * machine. `FAULTS=all` runs the whole matrix.
 */
import assert from "node:assert/strict";
import { ALL, chosen, expectEnd, knownIds, Scene } from "../support/fault-scene.ts";
import { until } from "../support/federation.ts";
import { unlessItDied, type Journey, type Role } from "../support/journey.ts";

const SOURCE_PHASES = [
  "proposed",
  "serving",
  "stopping",
  "frozen",
  "handed-over",
  "releasing",
  "released",
  "completed",
  // Not a phase, but the last entry: the other side is known to have ended too.
  "settled",
] as const;

const DESTINATION_PHASES = [
  "accepted",
  "composing",
  "prepared",
  "receiving",
  "received",
  "starting",
  "running",
  "ready",
  "completed",
  // Not a phase, but the last entry: the other side is known to have ended too.
  "settled",
] as const;

interface Point {
  readonly when: "before" | "after";
  readonly role: Role;
  readonly phase: string;
}

const pointsOf = (role: Role, phases: readonly string[]): Point[] =>
  phases.flatMap((phase) => [
    { when: "before", role, phase },
    { when: "after", role, phase },
  ]);

const POINTS = [
  ...pointsOf("source", SOURCE_PHASES),
  ...pointsOf("destination", DESTINATION_PHASES),
];

const scene = new Scene();

/** The id of the migration that has just begun; undefined when it never did. */
async function idAfter(
  journey: Journey,
  told: string | undefined,
  known: ReadonlySet<string>,
): Promise<string | undefined> {
  if (told !== undefined) return told;
  return await journey.newest(journey.home, known);
}

async function killAt(journey: Journey, { when, role, phase }: Point): Promise<void> {
  const known = await knownIds(journey.federation);
  const victim = journey.side(role);
  victim.faults(`${when}:${role}:${phase}`);
  const told = await journey.depart();
  await victim.died();
  journey.atMostOne();
  victim.faults();
  await victim.start();
  const id = await idAfter(journey, told, known);
  if (id !== undefined) return await expectEnd(journey, id, "completed");
  assert.deepEqual({ when, role, phase }, { when: "before", role: "source", phase: "proposed" });
  await journey.assertWhole(undefined, undefined);
}

/** One of the two points of every phase, by turns. */
const isOften = (_: Point, index: number): boolean => index % 4 === 0 || index % 4 === 3;

for (const point of chosen(POINTS, isOften)) {
  scene.test(`kill -9 ${point.when} ${point.role} ${point.phase}`, (journey) =>
    killAt(journey, point),
  );
}

/** Brings a migration to where the machine is off and its data has arrived, and holds it there. */
async function heldAtFrozen(journey: Journey): Promise<string> {
  journey.home.faults("hold:source:frozen");
  const id = await journey.depart();
  assert.ok(id !== undefined);
  const reached = async (): Promise<true | undefined> =>
    (await journey.show(journey.away, id))?.state === "received" ? true : undefined;
  await until("the user data has arrived", reached);
  return id;
}

async function killWhileAborting(journey: Journey, { when, role, phase }: Point): Promise<void> {
  const id = await heldAtFrozen(journey);
  const victim = journey.side(role);
  const hold = role === "source" ? ["hold:source:frozen"] : [];
  victim.faults(...hold, `${when}:${role}:${phase}`);
  await unlessItDied(journey.home.call("migration.cancel", { migration: id }));
  await victim.died();
  victim.faults();
  await victim.start();
  const begun = (await journey.show(journey.home, id))?.state;
  // Before `aborting` was durable the cancel had not been taken: the migration goes on.
  const untaken = when === "before" && role === "source" && phase === "aborting";
  assert.ok(begun !== undefined);
  await expectEnd(journey, id, untaken ? "completed" : "aborted");
}

const ABORTS = [
  ...pointsOf("source", ["aborting", "aborted"]),
  ...pointsOf("destination", ["aborting", "aborted"]),
];

for (const point of chosen(ABORTS, (_, index) => index === 1 || index === 6)) {
  scene.test(`kill -9 ${point.when} ${point.role} ${point.phase}`, (journey) =>
    killWhileAborting(journey, point),
  );
}

/** Both agents die while one side is held in a phase. */
async function killBoth(journey: Journey, role: Role, phase: string): Promise<void> {
  const side = journey.side(role);
  side.faults(`hold:${role}:${phase}`);
  const id = await journey.depart();
  assert.ok(id !== undefined);
  const reached = async (): Promise<true | undefined> =>
    (await journey.show(side, id))?.state === phase ? true : undefined;
  await until(`${role} is ${phase}`, reached);
  const { home, away } = journey;
  await Promise.all([home.kill(), away.kill()]);
  side.faults();
  await Promise.all([home.start(), away.start()]);
  await expectEnd(journey, id, "completed");
}

const HELD: readonly (readonly [Role, string])[] = [
  ["source", "serving"],
  ["source", "frozen"],
  ["destination", "receiving"],
  ["destination", "starting"],
  ["destination", "running"],
  ["source", "handed-over"],
  ["source", "releasing"],
  ["source", "released"],
];

for (const [role, phase] of chosen(HELD, (_, index) => index === 3 || index === 5)) {
  scene.test(`kill -9 of both while the ${role} is ${phase}`, (journey) =>
    killBoth(journey, role, phase),
  );
}

/** A fixed sequence of fractions (mulberry32), so that a run can be had again. */
function fractions(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function killSometime(journey: Journey, role: Role, delay_ms: number): Promise<void> {
  const victim = journey.side(role);
  const id = await journey.depart();
  assert.ok(id !== undefined);
  await new Promise((resolve) => setTimeout(resolve, delay_ms));
  await victim.kill();
  await victim.start();
  await expectEnd(journey, id, "completed");
}

const next = fractions(20261122);
for (const index of Array.from({ length: ALL ? 16 : 2 }).keys()) {
  const role: Role = index % 2 === 0 ? "destination" : "source";
  const delay_ms = Math.round(next() * 5000);
  scene.test(`kill -9 of the ${role} after ${delay_ms} ms`, (journey) =>
    killSometime(journey, role, delay_ms),
  );
}

/**
 * Hot migrations in which an agent or a hypervisor dies, at every phase and on either side. Whatever
 * dies, the migration ends by itself with one whole machine that has every record that it
 * acknowledged. `FAULTS=all` runs the whole matrix.
 */
import assert from "node:assert/strict";
import { chosen, knownIds, Scene, SHARED } from "../support/fault-scene.ts";
import { until, type TestCloud } from "../support/federation.ts";
import type { Journey, Outcome, Role } from "../support/journey.ts";

type How = NonNullable<Parameters<Journey["depart"]>[0]>;

/** How memory moves is not left to a strategy that goes by how fast this machine is. */
const HOW: How = { mode: "hot", memory: "precopy" };
const TOGETHER: How = { ...HOW, storage: "shared" };

const SOURCE_PHASES = [
  "proposed",
  "serving",
  "copying",
  "moving",
  "switching",
  "handed-over",
  "supplying",
  "releasing",
  "released",
  "completed",
  // Not a phase, but the last entry: the other side is known to have ended too.
  "settled",
] as const;

const DESTINATION_PHASES = [
  "accepted",
  "composing",
  "copying",
  "listening",
  "arming",
  "armed",
  "starting",
  "filling",
  "ready",
  "completed",
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

/** Either end is allowed; both clouds must tell the same, and the machine must be whole. */
async function expectAnyEnd(journey: Journey, id: string): Promise<Outcome> {
  const outcome = await journey.settle(id);
  await journey.assertWhole(id, outcome);
  return outcome;
}

async function killAt(journey: Journey, how: How, { when, role, phase }: Point): Promise<string> {
  const known = await knownIds(journey.federation);
  const victim = journey.side(role);
  victim.faults(`${when}:${role}:${phase}`);
  const told = await journey.depart(how);
  await victim.died();
  victim.faults();
  await victim.start();
  const id = told ?? (await journey.newest(journey.home, known));
  if (id !== undefined) return await expectAnyEnd(journey, id);
  assert.deepEqual({ when, role, phase }, { when: "before", role: "source", phase: "proposed" });
  await journey.assertWhole(undefined, undefined);
  return "never begun";
}

const OFTEN = ["after source moving", "after destination arming", "after destination filling"];

const nameOf = ({ when, role, phase }: Point): string => `${when} ${role} ${phase}`;

for (const point of chosen(POINTS, (one) => OFTEN.includes(nameOf(one)))) {
  scene.test(`hot, kill -9 ${nameOf(point)}`, async (journey, context) => {
    context.diagnostic(await killAt(journey, HOW, point));
  });
}

/** The hypervisor of a cloud dies while one side is held in a phase. */
async function killGuest(
  journey: Journey,
  how: How,
  [role, phase, of]: readonly [Role, string, Role],
): Promise<string> {
  const side = journey.side(role);
  side.faults(`hold:${role}:${phase}`);
  const id = await journey.depart(how);
  assert.ok(id !== undefined);
  await until(`${role} is ${phase}`, async () =>
    (await journey.show(side, id))?.state === phase ? true : undefined,
  );
  await killGuests(journey, journey.side(of));
  side.faults();
  return await expectAnyEnd(journey, id);
}

async function killGuests(journey: Journey, cloud: TestCloud): Promise<void> {
  const guests = cloud.guests(journey.uuid);
  assert.ok(guests.length > 0, `a hypervisor at ${cloud.name}`);
  for (const { pid } of guests) process.kill(pid, "SIGKILL");
  const gone = (): true | undefined => (cloud.guests(journey.uuid).length === 0 ? true : undefined);
  await until("the hypervisor has ended", () => Promise.resolve(gone()));
}

const GUESTS: readonly (readonly [Role, string, Role])[] = [
  ["source", "copying", "source"],
  ["source", "moving", "source"],
  ["destination", "listening", "destination"],
  ["source", "switching", "source"],
  ["source", "switching", "destination"],
  ["destination", "armed", "destination"],
  ["source", "handed-over", "source"],
  ["destination", "filling", "destination"],
  ["source", "supplying", "source"],
];

const guestName = ([role, phase, of]: (typeof GUESTS)[number]): string =>
  `the ${of}'s hypervisor dies while the ${role} is ${phase}`;

for (const guest of chosen(GUESTS, (_, index) => index === 5 || index === 7)) {
  scene.test(`hot, ${guestName(guest)}`, async (journey, context) => {
    context.diagnostic(await killGuest(journey, HOW, guest));
  });
}

/** The same where both clouds reach the user data block; the whole matrix alone has it. */
const together = new Scene(SHARED);

for (const point of chosen(POINTS, () => false)) {
  together.test(`shared, kill -9 ${nameOf(point)}`, async (journey, context) => {
    context.diagnostic(await killAt(journey, TOGETHER, point));
  });
}

for (const guest of chosen(GUESTS, () => false)) {
  together.test(`shared, ${guestName(guest)}`, async (journey, context) => {
    context.diagnostic(await killGuest(journey, TOGETHER, guest));
  });
}

/**
 * Explores every interleaving of the two state machines with a network that loses, repeats,
 * delays and reorders, and with crashes of either side at any point, to the fixed point: all
 * reachable states are visited, not a sample. A message, once sent, may be delivered at any later
 * time any number of times; a crash forgets what was being done and does again what the journalled
 * phase asks for; an effect may have happened although the crash came before its event was
 * journalled.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  DESTINATION,
  destinationEffects,
  stepDestination,
  type DestinationEffect,
  type DestinationEvent,
  type DestinationPhase,
} from "./destination.ts";
import {
  SOURCE,
  sourceEffects,
  stepSource,
  type SourceEffect,
  type SourceEvent,
  type SourcePhase,
} from "./source.ts";
import { eventFromDestination, eventFromSource } from "./status.ts";

interface Model {
  readonly s: SourcePhase;
  /** `none`: no proposal has reached the destination yet. */
  readonly d: DestinationPhase | "none";
  readonly sRuns: boolean;
  readonly dRuns: boolean;
  /** The machine has run at the destination: its writes may have been acknowledged. */
  readonly dRan: boolean;
  readonly sentByS: readonly SourcePhase[];
  readonly sentByD: readonly (DestinationPhase | "unknown")[];
  readonly todoS: readonly SourceEffect[];
  readonly todoD: readonly DestinationEffect[];
}

interface Edge {
  readonly to: Model;
  /** Would happen by itself, given time, without faults. */
  readonly progress: boolean;
}

const keyOf = (m: Model): string =>
  [m.s, m.d, +m.sRuns, +m.dRuns, +m.dRan, m.sentByS, m.sentByD, m.todoS, m.todoD].join("|");

const add = <T extends string>(list: readonly T[], item: T): readonly T[] =>
  list.includes(item) ? list : [...list, item].toSorted();

function onSource(m: Model, event: SourceEvent): Model {
  const { phase, effects } = stepSource(m.s, event);
  if (phase === m.s) return m;
  return { ...m, s: phase, sentByS: add(m.sentByS, phase), todoS: effects };
}

function onDestination(m: Model, event: DestinationEvent): Model {
  if (m.d === "none") return m;
  const { phase, effects } = stepDestination(m.d, event);
  if (phase === m.d) return m;
  return { ...m, d: phase, sentByD: add(m.sentByD, phase), todoD: effects };
}

function deliverToDestination(m: Model, sent: SourcePhase): Model {
  if (m.d !== "none") {
    const event = eventFromSource(sent);
    return event === undefined ? m : onDestination(m, event);
  }
  if (sent !== "proposed") return { ...m, sentByD: add(m.sentByD, "unknown") };
  return {
    ...m,
    d: "accepted",
    sentByD: add(m.sentByD, "accepted"),
    todoD: destinationEffects("accepted"),
  };
}

/** What an effect does to the world, before its event is known to anybody. */
function sourceWorld(m: Model, effect: SourceEffect): Model {
  if (effect === "stop-machine") return { ...m, sRuns: false };
  if (effect === "roll-back") return { ...m, sRuns: true };
  return m;
}

const SOURCE_EVENT: Partial<Record<SourceEffect, SourceEvent>> = {
  "stop-machine": "stopped",
  "release-machine": "released",
  "roll-back": "rolled-back",
};

const DESTINATION_EVENT: Partial<Record<DestinationEffect, DestinationEvent>> = {
  "fetch-components": "components-held",
  compose: "composed",
  "fetch-user-data": "user-data-held",
  "start-machine": "started",
  "await-ready": "booted",
  "clean-up": "cleaned",
  "stop-machine": "stopped",
};

function destinationWorld(m: Model, effect: DestinationEffect): Model {
  if (effect === "start-machine") return { ...m, dRuns: true, dRan: true };
  if (effect === "stop-machine") return { ...m, dRuns: false };
  return m;
}

function sourceEdges(m: Model): Edge[] {
  return m.todoS.flatMap((effect) => {
    const done = sourceWorld(m, effect);
    const event = SOURCE_EVENT[effect];
    const rest = { ...done, todoS: done.todoS.filter((other) => other !== effect) };
    const after = event === undefined ? rest : onSource(rest, event);
    return [
      { to: after, progress: true },
      { to: done, progress: false },
    ];
  });
}

function destinationEdges(m: Model): Edge[] {
  return m.todoD.flatMap((effect) => {
    const done = destinationWorld(m, effect);
    const event = DESTINATION_EVENT[effect];
    const rest = { ...done, todoD: done.todoD.filter((other) => other !== effect) };
    const after = event === undefined ? rest : onDestination(rest, event);
    const edges: Edge[] = [
      { to: after, progress: true },
      { to: done, progress: false },
    ];
    if (effect === "start-machine" && !m.dRan) {
      edges.push({ to: onDestination(m, "start-failed"), progress: false });
    }
    return edges;
  });
}

function faults(m: Model): Model[] {
  const atSource: SourceEvent[] = ["cancel", "failed", "peer-timeout"];
  const atDestination: DestinationEvent[] = ["cancel", "failed", "peer-timeout"];
  const crashes: Model[] = [{ ...m, todoS: sourceEffects(m.s) }];
  if (m.d !== "none") crashes.push({ ...m, todoD: destinationEffects(m.d) });
  return [
    ...crashes,
    ...atSource.map((event) => onSource(m, event)),
    ...atDestination.map((event) => onDestination(m, event)),
  ];
}

function edges(m: Model): Edge[] {
  const toSource = m.sentByD.map((sent) => onSource(m, eventFromDestination(sent)));
  const toDestination = m.sentByS.map((sent) => deliverToDestination(m, sent));
  return [
    ...[...toSource, ...toDestination].map((to) => ({ to, progress: true })),
    ...sourceEdges(m),
    ...destinationEdges(m),
    ...faults(m).map((to) => ({ to, progress: false })),
  ];
}

const FIRST: Model = {
  s: "proposed",
  d: "none",
  sRuns: true,
  dRuns: false,
  dRan: false,
  sentByS: ["proposed"],
  sentByD: [],
  todoS: sourceEffects("proposed"),
  todoD: [],
};

interface Explored {
  readonly states: ReadonlyMap<string, Model>;
  /** For each state, the states from which it is reached by progress alone. */
  readonly before: ReadonlyMap<string, readonly string[]>;
}

function explore(planted: (m: Model) => readonly Model[] = () => []): Explored {
  const states = new Map([[keyOf(FIRST), FIRST]]);
  const before = new Map<string, string[]>();
  const queue = [FIRST];
  for (let m = queue.pop(); m !== undefined; m = queue.pop()) {
    const from = keyOf(m);
    const extra = planted(m).map((to) => ({ to, progress: false }));
    for (const { to, progress } of [...edges(m), ...extra]) {
      const key = keyOf(to);
      if (progress && key !== from) before.set(key, [...(before.get(key) ?? []), from]);
      if (states.has(key)) continue;
      states.set(key, to);
      queue.push(to);
    }
  }
  return { states, before };
}

const explored = explore();

const isGoodEnd = (m: Model): boolean =>
  (m.s === "completed" && m.d === "completed" && m.dRuns && !m.sRuns) ||
  (m.s === "aborted" && (m.d === "none" || m.d === "aborted") && m.sRuns && !m.dRuns);

test("at most one copy of the machine runs, in every reachable state", () => {
  for (const m of explored.states.values()) assert.ok(!(m.sRuns && m.dRuns), keyOf(m));
});

test("once the machine has run at the destination it never runs at the source again", () => {
  for (const m of explored.states.values()) assert.ok(!(m.dRan && m.sRuns), keyOf(m));
});

test("the machine runs only where its phase allows", () => {
  for (const m of explored.states.values()) {
    if (m.s === "handed-over") assert.ok(!m.sRuns, keyOf(m));
    if (m.d === "aborted" || m.d === "aborting") assert.ok(!m.dRuns, keyOf(m));
    if (m.d === "none") assert.ok(!m.dRuns, keyOf(m));
  }
});

test("from every reachable state, both sides can still end well without help", () => {
  const reached = new Set<string>();
  const queue = [...explored.states].filter(([, m]) => isGoodEnd(m)).map(([key]) => key);
  for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
    if (reached.has(key)) continue;
    reached.add(key);
    queue.push(...(explored.before.get(key) ?? []));
  }
  const stuck = [...explored.states.keys()].filter((key) => !reached.has(key));
  assert.deepEqual(stuck.slice(0, 3), []);
});

test("the exploration is not vacuous", (t) => {
  const all = [...explored.states.values()];
  t.diagnostic(`${all.length} states`);
  assert.ok(all.length > 200);
  const needsOperator = new Set(["fencing", "fenced"]);
  for (const phase of Object.keys(SOURCE))
    assert.ok(
      all.some((m) => m.s === phase),
      phase,
    );
  for (const phase of Object.keys(DESTINATION)) {
    assert.equal(
      all.some((m) => m.d === phase),
      !needsOperator.has(phase),
      phase,
    );
  }
});

test("a tie broken by an operator whose fence holds leaves one copy", () => {
  for (const m of explored.states.values()) {
    if (m.s !== "handed-over" || m.dRuns) continue;
    const kept = sourceWorld(onSource(m, "resolve-keep"), "roll-back");
    assert.ok(kept.sRuns);
    const back = onDestination({ ...kept, sentByS: add(kept.sentByS, "aborting") }, "peer-aborted");
    assert.ok(["aborting", "aborted", "fencing", "none"].includes(back.d), keyOf(back));
  }
});

const doubled = (states: ReadonlyMap<string, Model>): boolean =>
  [...states.values()].some((m) => m.sRuns && m.dRuns);

test("the exploration finds planted faults", () => {
  const cancelAfterToken = explore((m) =>
    m.s === "handed-over" ? [{ ...m, s: "aborting", todoS: sourceEffects("aborting") }] : [],
  );
  assert.ok(doubled(cancelAfterToken.states));
  const startWithoutToken = explore((m) =>
    m.d === "received" ? [{ ...m, d: "starting", todoD: destinationEffects("starting") }] : [],
  );
  assert.ok(doubled(startWithoutToken.states));
});

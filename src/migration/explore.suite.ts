/**
 * Explores every interleaving of two state machines with a network that loses, repeats, delays and
 * reorders, and with crashes of either side at any point, to the fixed point: all reachable states
 * are visited, not a sample. A message, once sent, may be delivered at any later time any number of
 * times; a crash forgets what was being done and does again what the journalled phase asks for; an
 * effect may have happened although the crash came before its event was journalled.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Step } from "./table.ts";

/** One side's machine. Phases, events and effects are those of its tables. */
interface Side {
  readonly phases: readonly string[];
  step(phase: string, event: string): Step<string, string>;
  effects(phase: string): readonly string[];
  /** What is heard when an effect has been done; absent where nothing follows by itself. */
  readonly events: Readonly<Record<string, string>>;
}

/** A pair of machines, and what their effects do to the machine that migrates. */
export interface Machines {
  readonly source: Side;
  readonly destination: Side;
  eventFromDestination(phase: string): string;
  eventFromSource(phase: string): string | undefined;
  /** The source's effect after which the machine does not run there. */
  readonly stops: string;
  /** The destination's effect that lets it run. */
  readonly starts: string;
  /** The destination's phase in which it waits for the token. */
  readonly waits: string;
}

interface Model {
  readonly s: string;
  /** `none`: no proposal has reached the destination yet. */
  readonly d: string;
  readonly sRuns: boolean;
  readonly dRuns: boolean;
  /** The machine has run at the destination: its writes may have been acknowledged. */
  readonly dRan: boolean;
  readonly sentByS: readonly string[];
  readonly sentByD: readonly string[];
  readonly todoS: readonly string[];
  readonly todoD: readonly string[];
}

interface Edge {
  readonly to: Model;
  /** Would happen by itself, given time, without faults. */
  readonly progress: boolean;
}

interface Explored {
  readonly states: ReadonlyMap<string, Model>;
  /** For each state, the states from which it is reached by progress alone. */
  readonly before: ReadonlyMap<string, readonly string[]>;
}

const FAULTS = ["cancel", "failed", "peer-timeout"];

const keyOf = (m: Model): string =>
  [m.s, m.d, +m.sRuns, +m.dRuns, +m.dRan, m.sentByS, m.sentByD, m.todoS, m.todoD].join("|");

const add = (list: readonly string[], item: string): readonly string[] =>
  list.includes(item) ? list : [...list, item].toSorted();

/** What happens to a model of both sides. */
class World {
  readonly #machines: Machines;

  constructor(machines: Machines) {
    this.#machines = machines;
  }

  first(): Model {
    const todoS = this.#machines.source.effects("proposed");
    const nothing = { sentByD: [], todoD: [], d: "none", dRuns: false, dRan: false };
    return { ...nothing, s: "proposed", sRuns: true, sentByS: ["proposed"], todoS };
  }

  onSource(m: Model, event: string): Model {
    const { phase, effects } = this.#machines.source.step(m.s, event);
    if (phase === m.s) return m;
    return { ...m, s: phase, sentByS: add(m.sentByS, phase), todoS: effects };
  }

  onDestination(m: Model, event: string): Model {
    if (m.d === "none") return m;
    const { phase, effects } = this.#machines.destination.step(m.d, event);
    if (phase === m.d) return m;
    return { ...m, d: phase, sentByD: add(m.sentByD, phase), todoD: effects };
  }

  #deliverToDestination(m: Model, sent: string): Model {
    if (m.d !== "none") {
      const event = this.#machines.eventFromSource(sent);
      return event === undefined ? m : this.onDestination(m, event);
    }
    if (sent !== "proposed") return { ...m, sentByD: add(m.sentByD, "unknown") };
    const todoD = this.#machines.destination.effects("accepted");
    return { ...m, d: "accepted", sentByD: add(m.sentByD, "accepted"), todoD };
  }

  /** What an effect does to the world, before its event is known to anybody. */
  atSource(m: Model, effect: string): Model {
    if (effect === this.#machines.stops) return { ...m, sRuns: false };
    return effect === "roll-back" ? { ...m, sRuns: true } : m;
  }

  #atDestination(m: Model, effect: string): Model {
    if (effect === this.#machines.starts) return { ...m, dRuns: true, dRan: true };
    return effect === "stop-machine" ? { ...m, dRuns: false } : m;
  }

  #sourceEdges(m: Model): Edge[] {
    return m.todoS.flatMap((effect) => {
      const done = this.atSource(m, effect);
      const event = this.#machines.source.events[effect];
      const rest = { ...done, todoS: done.todoS.filter((other) => other !== effect) };
      const after = event === undefined ? rest : this.onSource(rest, event);
      return [
        { to: after, progress: true },
        { to: done, progress: false },
      ];
    });
  }

  #destinationEdges(m: Model): Edge[] {
    return m.todoD.flatMap((effect) => {
      const done = this.#atDestination(m, effect);
      const event = this.#machines.destination.events[effect];
      const rest = { ...done, todoD: done.todoD.filter((other) => other !== effect) };
      const after = event === undefined ? rest : this.onDestination(rest, event);
      const edges: Edge[] = [
        { to: after, progress: true },
        { to: done, progress: false },
      ];
      if (effect === this.#machines.starts && !m.dRan) {
        edges.push({ to: this.onDestination(m, "start-failed"), progress: false });
      }
      return edges;
    });
  }

  #faults(m: Model): Model[] {
    const { source, destination } = this.#machines;
    const crashes: Model[] = [{ ...m, todoS: source.effects(m.s) }];
    if (m.d !== "none") crashes.push({ ...m, todoD: destination.effects(m.d) });
    return [
      ...crashes,
      ...FAULTS.map((event) => this.onSource(m, event)),
      ...FAULTS.map((event) => this.onDestination(m, event)),
    ];
  }

  edges(m: Model): Edge[] {
    const machines = this.#machines;
    const heard = m.sentByD.map((sent) => machines.eventFromDestination(sent));
    const toSource = heard.map((event) => this.onSource(m, event));
    const toDestination = m.sentByS.map((sent) => this.#deliverToDestination(m, sent));
    return [
      ...[...toSource, ...toDestination].map((to) => ({ to, progress: true })),
      ...this.#sourceEdges(m),
      ...this.#destinationEdges(m),
      ...this.#faults(m).map((to) => ({ to, progress: false })),
    ];
  }
}

function explore(world: World, planted: (m: Model) => readonly Model[] = () => []): Explored {
  const first = world.first();
  const states = new Map([[keyOf(first), first]]);
  const before = new Map<string, string[]>();
  const queue = [first];
  for (let m = queue.pop(); m !== undefined; m = queue.pop()) {
    const from = keyOf(m);
    const extra = planted(m).map((to) => ({ to, progress: false }));
    for (const { to, progress } of [...world.edges(m), ...extra]) {
      const key = keyOf(to);
      if (progress && key !== from) {
        const known = before.get(key);
        if (known === undefined) before.set(key, [from]);
        else known.push(from);
      }
      if (states.has(key)) continue;
      states.set(key, to);
      queue.push(to);
    }
  }
  return { states, before };
}

const isGoodEnd = (m: Model): boolean =>
  (m.s === "completed" && m.d === "completed" && m.dRuns && !m.sRuns) ||
  (m.s === "aborted" && (m.d === "none" || m.d === "aborted") && m.sRuns && !m.dRuns);

const doubled = (states: ReadonlyMap<string, Model>): boolean =>
  [...states.values()].some((m) => m.sRuns && m.dRuns);

/** States from which no good end is reached by progress alone. */
function stuck({ states, before }: Explored): string[] {
  const reached = new Set<string>();
  const queue = [...states].filter(([, m]) => isGoodEnd(m)).map(([key]) => key);
  for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
    if (reached.has(key)) continue;
    reached.add(key);
    queue.push(...(before.get(key) ?? []));
  }
  return [...states.keys()].filter((key) => !reached.has(key));
}

/** Tests of a pair of machines. */
export function exploreMachines(name: string, machines: Machines): void {
  const world = new World(machines);
  const { source, destination } = machines;
  const explored = explore(world);
  const all = [...explored.states.values()];

  test(`${name}: at most one copy of the machine runs, in every reachable state`, () => {
    for (const m of all) assert.ok(!(m.sRuns && m.dRuns), keyOf(m));
  });

  test(`${name}: once the machine has run at the destination it never runs at the source again`, () => {
    for (const m of all) assert.ok(!(m.dRan && m.sRuns), keyOf(m));
  });

  test(`${name}: the machine runs only where its phase allows`, () => {
    for (const m of all) {
      if (m.s === "handed-over") assert.ok(!m.sRuns, keyOf(m));
      if (m.d === "aborted" || m.d === "aborting") assert.ok(!m.dRuns, keyOf(m));
      if (m.d === "none") assert.ok(!m.dRuns, keyOf(m));
    }
  });

  test(`${name}: from every reachable state, both sides can still end well without help`, () => {
    assert.deepEqual(stuck(explored).slice(0, 3), []);
  });

  test(`${name}: the exploration is not vacuous`, (t) => {
    t.diagnostic(`${all.length} states`);
    assert.ok(all.length > 200);
    const needsOperator = new Set(["fencing", "fenced"]);
    for (const phase of source.phases)
      assert.ok(
        all.some(({ s }) => s === phase),
        phase,
      );
    for (const phase of destination.phases) {
      assert.equal(
        all.some(({ d }) => d === phase),
        !needsOperator.has(phase),
        phase,
      );
    }
  });

  test(`${name}: a tie broken by an operator whose fence holds leaves one copy`, () => {
    for (const m of all) {
      if (m.s !== "handed-over" || m.dRuns) continue;
      const kept = world.atSource(world.onSource(m, "resolve-keep"), "roll-back");
      assert.ok(kept.sRuns);
      const told = { ...kept, sentByS: add(kept.sentByS, "aborting") };
      const back = world.onDestination(told, "peer-aborted");
      assert.ok(["aborting", "aborted", "fencing", "none"].includes(back.d), keyOf(back));
    }
  });

  test(`${name}: the exploration finds planted faults`, () => {
    const cancelAfterToken = explore(world, (m) =>
      m.s === "handed-over" ? [{ ...m, s: "aborting", todoS: source.effects("aborting") }] : [],
    );
    assert.ok(doubled(cancelAfterToken.states));
    const startWithoutToken = explore(world, (m) =>
      m.d === machines.waits
        ? [{ ...m, d: "starting", todoD: destination.effects("starting") }]
        : [],
    );
    assert.ok(doubled(startWithoutToken.states));
  });
}

/**
 * A state machine as data: `TABLE[phase][event]` is the next phase. What a phase obliges its
 * side to do is a function of the phase alone, so that recovery after a crash is nothing but
 * doing again what the journalled phase asks for.
 */
export type Table<Phase extends string, Event extends string> = Readonly<
  Record<Phase, Readonly<Partial<Record<Event, Phase>>>>
>;

export interface Step<Phase, Effect> {
  readonly phase: Phase;
  /** What the new phase asks for; empty where the event changes nothing. */
  readonly effects: readonly Effect[];
}

/** The pure step of a machine: journal the phase that it gives, then run the effects. */
export function stepper<Phase extends string, Event extends string, Effect>(
  table: Table<Phase, Event>,
  effects: Readonly<Record<Phase, readonly Effect[]>>,
): (phase: Phase, event: Event) => Step<Phase, Effect> {
  return (phase, event) => {
    // An event that has no place in the phase is stale, repeated or too late.
    const to = table[phase][event];
    return to === undefined ? { phase, effects: [] } : { phase: to, effects: effects[to] };
  };
}

/** The table as a Mermaid state diagram; `doc/migration.md` holds its output. */
export function diagramOf<Phase extends string, Event extends string>(
  table: Table<Phase, Event>,
  first: Phase,
): string {
  const phases = Object.keys(table) as Phase[];
  const arrows = phases.flatMap((from) => arrowsOf(table, from));
  const ends = phases
    .filter((phase) => Object.keys(table[phase]).length === 0)
    .map((phase) => `  ${label(phase)} --> [*]`);
  return ["stateDiagram-v2", `  [*] --> ${label(first)}`, ...arrows, ...ends].join("\n");
}

function label(phase: string): string {
  return phase.replaceAll("-", "_");
}

function arrowsOf<Phase extends string, Event extends string>(
  table: Table<Phase, Event>,
  from: Phase,
): string[] {
  const byTarget = new Map<Phase, string[]>();
  for (const [event, to] of Object.entries(table[from]) as [Event, Phase][]) {
    byTarget.set(to, [...(byTarget.get(to) ?? []), event]);
  }
  return [...byTarget].map(
    ([to, events]) => `  ${label(from)} --> ${label(to)}: ${events.join(", ")}`,
  );
}

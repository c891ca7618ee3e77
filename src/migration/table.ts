/**
 * A state machine as data: `TABLE[phase][event]` is the next phase. What a phase obliges its
 * side to do is a function of the phase alone, so that recovery after a crash is nothing but
 * doing again what the journalled phase asks for.
 */
export type Table<Phase extends string, Event extends string> = Readonly<
  Record<Phase, Readonly<Partial<Record<Event, Phase>>>>
>;

/** The next phase, or undefined where the event changes nothing (stale, repeated, too late). */
export function next<Phase extends string, Event extends string>(
  table: Table<Phase, Event>,
  phase: Phase,
  event: Event,
): Phase | undefined {
  return table[phase][event];
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

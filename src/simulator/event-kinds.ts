/** What an event of the queue is; `subject` and `detail` are said beside each. */
export const EVENT = {
  /** The next machine arrives. */
  arrival: 0,
  /** subject: machine. */
  end: 1,
  load: 2,
  /** The next migration that is asked for. */
  demand: 3,
  /** subject: index among the named migrations. */
  named: 4,
  sample: 5,
  round: 6,
  release: 7,
  /** subject: cloud. */
  join: 8,
  leave: 9,
  evacuate: 10,
  fail: 11,
  repair: 12,
  prefetch: 13,
  /** subject: course; detail: index of the event in the side's list. */
  propose: 14,
  toSource: 15,
  toDestination: 16,
  /** A fetch has its connection. subject: job. */
  begin: 17,
  /** subject: flow. */
  flowEnd: 18,
  flowRamp: 19,
} as const;

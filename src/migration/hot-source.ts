import { SOURCE_UNDO } from "./source.ts";
import { stepper, type Table } from "./table.ts";

/**
 * The source's side of a hot migration. As a cold one, with these in place of `stopping` and
 * `frozen`:
 *
 * - `copying`: the destination has composed; it reads the user data block ahead, in passes over
 *   what was written meanwhile, while the machine runs.
 * - `moving`: memory flows into the destination's waiting hypervisor; the machine runs.
 * - `switching`: the machine is paused and its user data block does not change; what the
 *   destination lacks of it is known. By pre-copy the rest of memory and the status follow now; by
 *   post-copy they follow the token.
 * - `supplying`: the machine runs at the destination; it is given what it lacks of the user data
 *   block and, by post-copy, of memory. Nothing here may be given up before it has all.
 */
export type HotSourcePhase =
  | "proposed"
  | "serving"
  | "copying"
  | "moving"
  | "switching"
  | "handed-over"
  | "supplying"
  | "releasing"
  | "released"
  | "completed"
  | "aborting"
  | "aborted";

export type HotSourceEvent =
  /** What the destination says of itself. */
  | "peer-accepted"
  | "peer-copying"
  | "peer-listening"
  | "peer-armed"
  | "peer-resumed"
  | "peer-ready"
  | "peer-aborted"
  | "peer-unknown"
  | "peer-timeout"
  /** The hypervisor has paused the machine: what is left can go within the pause. */
  | "paused"
  | "released"
  | "rolled-back"
  | "failed"
  | "cancel"
  | "resolve-keep"
  | "resolve-give-up";

const UNDO_KNOWN = { "peer-unknown": "aborting", ...SOURCE_UNDO } as const;

export const HOT_SOURCE: Table<HotSourcePhase, HotSourceEvent> = {
  proposed: {
    "peer-accepted": "serving",
    "peer-copying": "copying",
    "peer-listening": "moving",
    ...SOURCE_UNDO,
  },
  serving: { "peer-copying": "copying", "peer-listening": "moving", ...UNDO_KNOWN },
  copying: { "peer-listening": "moving", ...UNDO_KNOWN },
  moving: { paused: "switching", ...UNDO_KNOWN },
  switching: { "peer-armed": "handed-over", ...UNDO_KNOWN },
  "handed-over": {
    "peer-resumed": "supplying",
    "peer-ready": "releasing",
    "peer-aborted": "aborting",
    "resolve-keep": "aborting",
    "resolve-give-up": "releasing",
  },
  supplying: { "peer-ready": "releasing", "resolve-give-up": "releasing" },
  releasing: { released: "released" },
  released: { "peer-ready": "completed", "resolve-give-up": "completed" },
  completed: {},
  aborting: { "rolled-back": "aborted" },
  aborted: {},
};

/** What the source must do while in a phase; each is idempotent. */
export type HotSourceEffect =
  /** Serve components and the user data block to this destination alone. */
  | "serve"
  /** Note which blocks are written, for the next pass. */
  | "track-writes"
  /** Let memory flow until the machine is paused. A hypervisor that runs again begins anew. */
  | "emigrate"
  /** Freeze the user data block; by pre-copy let the rest of memory and the status follow. */
  | "switch-over"
  /** By post-copy let memory follow now; mend the flow when it breaks. */
  | "supply-memory"
  | "release-machine"
  /** Cancel what is under way; the machine goes on here. */
  | "roll-back"
  | "withdraw";

const EFFECTS: Readonly<Record<HotSourcePhase, readonly HotSourceEffect[]>> = {
  proposed: ["serve"],
  serving: ["serve"],
  copying: ["serve", "track-writes"],
  moving: ["serve", "emigrate"],
  switching: ["serve", "switch-over"],
  "handed-over": ["serve", "supply-memory"],
  supplying: ["serve", "supply-memory"],
  releasing: ["withdraw", "release-machine"],
  released: [],
  completed: [],
  aborting: ["withdraw", "roll-back"],
  aborted: [],
};

export function hotSourceEffects(phase: HotSourcePhase): readonly HotSourceEffect[] {
  return EFFECTS[phase];
}

/** The pure step of the source's side of a hot migration. */
export const stepHotSource = stepper(HOT_SOURCE, EFFECTS);

/** What may be done with a machine, and the errors that say why not. */
import { TesseraError, type Machine } from "#core";

/** A machine that takes part in a migration is started by that migration alone. */
export interface Starter {
  readonly migration: string;
  /** Where it is aborted before the machine runs, the machine is not started. */
  readonly signal: AbortSignal;
}

/** One label of RFC 1123, as the guest's host name must be. */
export const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function nameInvalid(name: string): TesseraError {
  const message = `"${name}" cannot be the name of a machine`;
  return new TesseraError("misuse", "agent.name-invalid", message, {
    subject: name,
    remedy: "use 1 to 63 lower-case letters, digits and hyphens, no hyphen at the ends",
  });
}

/** A machine that is on its way, or gone, must not be started by hand: it could run twice. */
export function refuseStart(
  { uuid, name, state, cloud, migration }: Machine,
  starter?: Starter,
): void {
  if (state === "gone") {
    const message = `machine "${name}" was handed over to ${cloud ?? "another cloud"}`;
    throw new TesseraError("misuse", "agent.machine-gone", message, {
      subject: uuid,
      remedy: "start it there; what is kept here is its earlier copy",
    });
  }
  if (migration === undefined || migration === starter?.migration) return;
  const message = `machine "${name}" takes part in migration ${migration}`;
  throw new TesseraError("misuse", "agent.machine-migrating", message, {
    subject: uuid,
    remedy: "wait for its end, or cancel it",
  });
}

export function inUse(machine: Machine, why: string, remedy: string): TesseraError {
  const message = `machine "${machine.name}" cannot be removed: ${why}`;
  return new TesseraError("misuse", "agent.machine-in-use", message, {
    subject: machine.uuid,
    remedy,
  });
}

export function isRunning({ uuid, name }: Machine): TesseraError {
  return new TesseraError("misuse", "agent.machine-running", `machine "${name}" runs`, {
    subject: uuid,
    remedy: "stop it first",
  });
}

import { TesseraError } from "#core";

/** Why this cloud does not take a machine. */
export function refusal(reason: string, machine: string, all: readonly string[]): TesseraError {
  const more = all.length > 1 ? ` (and ${all.length - 1} more)` : "";
  return new TesseraError("peer", "migration.refused", `refused: ${reason}${more}`, {
    subject: machine,
    remedy: 'see "tessera cloud show", or choose another cloud',
  });
}

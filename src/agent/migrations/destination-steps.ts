/** What the destination's sides of all kinds of migration do alike. */
import { join } from "node:path";
import { hasCode, TesseraError, type SignedReceipt } from "#core";
import { unmarked } from "../machine-store.ts";
import type { Happening } from "./course.ts";
import type { SourceStatus } from "./messages.ts";
import { isCountersigned } from "./receipt.ts";
import type { DestinationPart } from "./record.ts";
import { isTokenOf } from "./token.ts";
import type { MigrationTools } from "./tools.ts";

/** Tries of one second each in which a restarted source may make itself known. */
export const REFUSALS_MAX = 20;
/** What a source answers that does not know the token any more. */
const MOVED = ["transfer.token-refused", "transfer.not-offered"];

/** True for what a source that was restarted answers until its status has told the new token. */
export function mayHaveMoved(error: TesseraError): boolean {
  return MOVED.some((code) => hasCode(error, code) || hasCause(error, code));
}

/** True when one of several sources failed in this way, and so the whole. */
function hasCause({ code: own, cause }: TesseraError, code: string): boolean {
  if (own !== "transfer.no-source" || !(cause instanceof AggregateError)) return false;
  return cause.errors.some((error) => hasCode(error, code));
}

/** @throws `migration.token-invalid` (peer) */
export function checkToken(
  record: DestinationPart,
  { handOver }: { handOver?: string | undefined },
) {
  if (handOver !== undefined && isTokenOf(handOver, record.handOverDigest)) return;
  const message = `${record.peer} sent a hand-over token that does not match its proposal`;
  throw new TesseraError("peer", "migration.token-invalid", message, { subject: record.id });
}

/** What the source's `completed` means: the receipt with both signatures, or its operator's word. */
export function heardCompleted(
  tools: MigrationTools,
  record: DestinationPart,
  status: Pick<SourceStatus, "signature" | "error">,
): { readonly event: "peer-completed"; readonly patch?: { receipt: SignedReceipt } } | undefined {
  const card = tools.peer(record.peer);
  const { receipt } = record;
  if (receipt === undefined || card === undefined) return undefined;
  const { signature } = status;
  // An operator's "give up" at the source completes it without a countersignature.
  if (!isCountersigned(receipt, card.agentKey, signature)) {
    return status.error === undefined ? undefined : { event: "peer-completed" };
  }
  const signatures = { ...receipt.signatures, [record.peer]: signature ?? "" };
  return { event: "peer-completed", patch: { receipt: { ...receipt, signatures } } };
}

/** Clones the composed image and proves that it is the source's. @throws `migration.composed-mismatch` */
export async function composeProven(
  { machines, world }: MigrationTools,
  record: DestinationPart,
): Promise<Happening<DestinationPart, "composed">> {
  const begin_ms = world.clock.monotonic();
  const { digest } = await machines.composed(record.appliance);
  if (digest !== record.composed) {
    const message = `composed ${digest}, but ${record.peer} composed ${record.composed}`;
    throw new TesseraError("corrupt", "migration.composed-mismatch", message, {
      subject: record.appliance.digest,
      remedy: "run the same version of Tessera at both clouds",
    });
  }
  const compose = world.clock.monotonic() - begin_ms;
  return { event: "composed", patch: { took_ms: { ...record.took_ms, compose } } };
}

/** Removes what was only for the way. */
export async function finishArrival(
  { machines, store, world, layout }: MigrationTools,
  { id, machine }: DestinationPart,
): Promise<undefined> {
  // It may have been removed since.
  if ((await machines.store.find(machine.uuid)) !== undefined) {
    await machines.update(machine.uuid, (stored) => unmarked(stored, id));
  }
  await world.files.removeTree(join(layout.incoming, id));
  await store.unpin(`migration:${id}`);
}

/** True when the source's status shows that it needs no more words. */
export function isSettled(phase: string, peer: string): boolean {
  if (phase === "completed") return peer === "completed" || peer === "unknown";
  return ["aborting", "aborted", "completed", "unknown"].includes(peer);
}

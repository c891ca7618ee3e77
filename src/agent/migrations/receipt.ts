import {
  canonicalJson,
  caseOf,
  componentsOf,
  TesseraError,
  type Digest,
  type Json,
  type Receipt,
  type ReceiptComponent,
  type SignedReceipt,
} from "#core";
import { verifySignature, type AgentKey } from "#federation";
import type { DestinationPart, DestinationRecord, SourcePart } from "./record.ts";

/** The bytes that both agents sign: the canonical JSON of the receipt. */
export function receiptBytes(receipt: Receipt): Uint8Array {
  return Buffer.from(`tessera receipt 1\n${canonicalJson(receipt as unknown as Json)}`);
}

/** What the migration did, as the destination saw it. */
export function makeReceipt(record: DestinationRecord, cloud: string, ended_ms: number): Receipt {
  const { userData, wasRunning } = record;
  if (userData === undefined) {
    throw new TesseraError("bug", "migration.no-user-data", "a receipt needs the user data");
  }
  const { digest, sizeBytes, allocatedBytes, wireBytes, lineage = false } = userData;
  return {
    ...receiptPart(record, cloud, ended_ms),
    mode: record.mode,
    userData: {
      digest,
      sizeBytes,
      allocatedBytes,
      bytes: wireBytes,
      ...(lineage ? { lineage } : {}),
    },
    downtime_ms: wasRunning ? downtimeOf(record) : 0,
    stop: record.stop ?? "was-stopped",
  };
}

/** What the receipts of all kinds of migration have. */
export function receiptPart(
  record: DestinationPart,
  cloud: string,
  ended_ms: number,
): Omit<Receipt, "mode" | "userData" | "downtime_ms" | "stop"> {
  const { took_ms, appliance } = record;
  const held = new Set(record.held);
  const components = componentsOf(appliance).map(({ id, name }) => ({
    id,
    name,
    held: held.has(id),
    ...movedOf(record, id),
  }));
  return {
    migration: record.id,
    machine: record.machine.uuid,
    appliance: appliance.digest,
    source: record.peer,
    destination: cloud,
    case: caseOf(components),
    components,
    ...(record.encodings === undefined ? {} : { encodings: sorted(record.encodings) }),
    wireBytes: record.wireBytes,
    phases_ms: {
      negotiate: took_ms.negotiate ?? 0,
      components: took_ms.components ?? 0,
      compose: took_ms.compose ?? 0,
      stop: took_ms.stop ?? 0,
      userData: took_ms.userData ?? 0,
      boot: took_ms.boot ?? 0,
    },
    started_ms: record.started_ms,
    ended_ms,
  };
}

function movedOf(
  { componentBytes, componentContents, componentSources, peer }: DestinationPart,
  id: Digest,
): Omit<ReceiptComponent, "id" | "name" | "held"> {
  const contents = componentContents?.[id];
  const sources = componentSources?.[id] ?? {};
  const others = Object.keys(sources).some((cloud) => cloud !== peer);
  return {
    bytes: componentBytes[id] ?? 0,
    ...(contents === undefined ? {} : { contents }),
    ...(others ? { sources: sorted(sources) } : {}),
  };
}

/** By name, as canonical JSON has it, so that both sides keep the same text. */
function sorted<T>(values: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function downtimeOf({ off_ms, on_ms }: DestinationPart): number {
  if (off_ms === undefined || on_ms === undefined) return 0;
  return Math.max(0, on_ms - off_ms);
}

export function signReceipt(receipt: Receipt, cloud: string, key: AgentKey): SignedReceipt {
  return { receipt, signatures: { [cloud]: key.sign(receiptBytes(receipt)) } };
}

/**
 * Checks that a receipt is about this migration and signed by the destination, and signs it too.
 *
 * @throws `migration.receipt-invalid` (peer)
 */
export function countersign(
  record: SourcePart,
  signed: SignedReceipt,
  peerKey: string,
  cloud: string,
  key: AgentKey,
): SignedReceipt {
  const { receipt, signatures } = signed;
  const signature = signatures[record.peer];
  const matches =
    receipt.migration === record.id &&
    receipt.machine === record.machine.uuid &&
    receipt.appliance === record.appliance.digest &&
    receipt.source === cloud &&
    receipt.destination === record.peer &&
    signature !== undefined &&
    verifySignature(peerKey, receiptBytes(receipt), signature);
  if (!matches) {
    const message = `${record.peer} sent a receipt that does not belong to migration ${record.id}`;
    throw new TesseraError("peer", "migration.receipt-invalid", message, { subject: record.id });
  }
  return {
    receipt,
    signatures: { [record.peer]: signature, [cloud]: key.sign(receiptBytes(receipt)) },
  };
}

/** True when the source's signature completes our receipt. */
export function isCountersigned(
  signed: SignedReceipt,
  peerKey: string,
  signature: string | undefined,
): boolean {
  return (
    signature !== undefined && verifySignature(peerKey, receiptBytes(signed.receipt), signature)
  );
}

/** What a machine that has moved while it runs still needs of the cloud that it left. Pure. */
import { formatBytes } from "#core";
import { MEMORY, USER_DATA, type StreamView } from "../progress.ts";
import type { HotDestinationRecord, HotSourceRecord, MigrationRecord } from "../record.ts";

/** In words for people; undefined where nothing depends on the other cloud, or not yet. */
export function dependenceOf(
  record: MigrationRecord,
  streams: readonly StreamView[],
): string | undefined {
  if (record.mode !== "hot" || !depends(record)) return undefined;
  const [at, from] =
    record.role === "source" ? [`at ${record.peer}`, "this cloud"] : ["here", record.peer];
  const memory = record.switch?.method === "postcopy" ? [left(streams, MEMORY, "memory")] : [];
  const all = [left(streams, USER_DATA, "user data"), ...memory];
  const needs = all.filter((one) => one !== undefined).join(" and ");
  const what = needs === "" ? "the end of the migration" : needs;
  return `the machine ${at} still needs from ${from}: ${what}`;
}

function depends(record: HotSourceRecord | HotDestinationRecord): boolean {
  if (record.role === "destination") return record.phase === "filling";
  return record.phase === "handed-over" || record.phase === "supplying";
}

/** Undefined where all has gone over. */
function left(streams: readonly StreamView[], id: string, name: string): string | undefined {
  const found = streams.find(({ stream }) => stream === id);
  if (found === undefined) return `what has not gone over of its ${name}`;
  const bytes = found.totalBytes - found.doneBytes;
  return bytes > 0 ? `${formatBytes(bytes)} of its ${name}` : undefined;
}

/** The user data block of a running machine as a read-only NBD export, and notes of what is written. */
import { z } from "zod";
import { hasCode, TesseraError, type Json } from "#core";
import type { DataExport } from "../../contract.ts";
import { DATA_NODE } from "../data-nodes.ts";
import { broken } from "./decode.ts";
import { ignoreRefusal, type HotSession } from "./session.ts";

const EXPORTS = z.array(z.object({ id: z.string() }));
const BITMAP = z.object({ name: z.string().optional(), recording: z.boolean(), count: z.number() });
const NODES = z.array(
  z.object({
    "node-name": z.string().optional(),
    drv: z.string(),
    "dirty-bitmaps": z.array(BITMAP).default([]),
  }),
);
const GRANULARITY_BYTES = 64 * 1024;
const NAME = /^[a-z][a-z0-9-]{0,62}$/;

export interface NamedNode {
  readonly name: string;
  readonly driver: string;
  readonly bitmaps: readonly z.infer<typeof BITMAP>[];
}

/** All block nodes that have a name. */
export async function namedNodes(session: HotSession): Promise<NamedNode[]> {
  const answer = await session.execute("query-named-block-nodes", { flat: true });
  const decoded = NODES.safeParse(answer);
  if (!decoded.success) throw broken("query-named-block-nodes is not understood", decoded.error);
  return decoded.data.map((node) => ({
    name: node["node-name"] ?? "",
    driver: node.drv,
    bitmaps: node["dirty-bitmaps"],
  }));
}

async function findBitmap(session: HotSession, name: string) {
  const nodes = await namedNodes(session);
  const data = nodes.find((node) => node.name === DATA_NODE);
  return data?.bitmaps.find((bitmap) => bitmap.name === name);
}

async function hasExport(session: HotSession, id: string): Promise<boolean> {
  const decoded = EXPORTS.safeParse(await session.execute("query-block-exports"));
  if (!decoded.success) throw broken("query-block-exports is not understood", decoded.error);
  return decoded.data.some((known) => known.id === id);
}

/** See `HotSource.exportData`. The server, once started, stays until `unexport`. */
export async function exportData(
  session: HotSession,
  socketPath: string,
  bitmap: string | undefined,
): Promise<DataExport> {
  if (bitmap !== undefined) await checkFrozen(session, bitmap);
  const id = bitmap === undefined ? "data" : `data-${bitmap}`;
  if (!(await hasExport(session, id))) {
    await startServer(session, socketPath);
    const bitmaps = bitmap === undefined ? {} : { bitmaps: [bitmap] };
    const shown = { id, type: "nbd", "node-name": DATA_NODE, name: id, writable: false };
    await session.execute("block-export-add", { ...shown, ...bitmaps });
  }
  const metaContext = bitmap === undefined ? {} : { metaContext: `qemu:dirty-bitmap:${bitmap}` };
  return { socketPath, exportName: id, ...metaContext };
}

/** There is one server in a QEMU; it is only ever started here, with this path. */
async function startServer(session: HotSession, path: string): Promise<void> {
  try {
    await session.execute("nbd-server-start", { addr: { type: "unix", data: { path } } });
  } catch (error) {
    const known = hasCode(error, "hypervisor.qmp-refused") && /already running/.test(error.message);
    if (!known) throw error;
  }
}

export async function unexport(session: HotSession): Promise<void> {
  // Refused when no server runs, which is what is wanted.
  await session.execute("nbd-server-stop").catch(ignoreRefusal);
}

const onData = (name: string): Readonly<Record<string, Json>> => ({ node: DATA_NODE, name });
const added = (name: string): Readonly<Record<string, Json>> => ({
  ...onData(name),
  granularity: GRANULARITY_BYTES,
});

export async function trackWrites(session: HotSession, name: string): Promise<void> {
  checkName(name);
  const known = await findBitmap(session, name);
  if (known?.recording === false) throw bitmapError(`the notes "${name}" are frozen already`);
  if (known === undefined) await session.execute("block-dirty-bitmap-add", added(name));
}

/** One transaction, so that every write is in exactly one of the two bitmaps. */
export async function freezeWrites(
  session: HotSession,
  name: string,
  next: string | undefined,
): Promise<void> {
  const known = await findBitmap(session, name);
  if (known === undefined) throw bitmapError(`there are no notes "${name}"`);
  if (!known.recording) return;
  if (next !== undefined) checkName(next);
  const begin = next === undefined ? [] : [{ type: "block-dirty-bitmap-add", data: added(next) }];
  const end = { type: "block-dirty-bitmap-disable", data: onData(name) };
  await session.execute("transaction", { actions: [...begin, end] });
}

export async function writtenBytes(session: HotSession, name: string): Promise<number | undefined> {
  return (await findBitmap(session, name))?.count;
}

/** An export that shows the bitmap goes with it. */
export async function forgetWrites(session: HotSession, name: string): Promise<void> {
  const id = `data-${name}`;
  if (await hasExport(session, id)) {
    await session.execute("block-export-del", { id, mode: "hard" });
    while (await hasExport(session, id));
  }
  if ((await findBitmap(session, name)) === undefined) return;
  await session.execute("block-dirty-bitmap-remove", onData(name));
}

async function checkFrozen(session: HotSession, name: string): Promise<void> {
  const known = await findBitmap(session, name);
  if (known?.recording === false) return;
  throw bitmapError(`the notes "${name}" must be frozen before they are exported`);
}

function checkName(name: string): void {
  if (!NAME.test(name)) throw bitmapError(`"${name}" is no name for notes of writes`);
}

function bitmapError(message: string): TesseraError {
  return new TesseraError("misuse", "hypervisor.bitmap", message, {
    remedy: "track, then freeze, then export; names have 1 to 63 characters of a-z, 0-9 and -",
  });
}

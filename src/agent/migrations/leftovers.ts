import { join } from "node:path";
import { reportOf } from "#core";
import type { MigrationRecord } from "./record.ts";
import { removeProbes } from "./shared-probe.ts";
import type { MigrationTools } from "./tools.ts";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * Removes what an agent that was killed left and nobody needs: data of migrations that have ended,
 * directories that never became machines, and the pins of both. To be called before anything else
 * runs.
 */
export async function removeLeftovers(tools: MigrationTools): Promise<void> {
  const open = tools.journal.list().filter(({ settled }) => !settled);
  for (const remove of [removeIncoming, removeDirectories, removePins, removeProbes]) {
    await remove(tools, open).catch((error: unknown) => {
      tools.world.log.log("warn", "leftovers stay", { ...reportOf(error) });
    });
  }
}

type Open = readonly MigrationRecord[];

async function removeIncoming({ world, layout }: MigrationTools, open: Open): Promise<void> {
  const needed = new Set(open.map(({ id }) => id));
  for (const name of await world.files.list(layout.incoming)) {
    if (!needed.has(name)) await world.files.removeTree(join(layout.incoming, name));
  }
}

/** A landing writes the machine's description last: its directory may be without one. */
function landing(open: Open): ReadonlySet<string> {
  return new Set(open.map(({ machine }) => machine.uuid));
}

async function removeDirectories(tools: MigrationTools, open: Open): Promise<void> {
  const { world, layout, machines } = tools;
  const needed = landing(open);
  for (const name of await world.files.list(layout.machines)) {
    if (!UUID.test(name) || needed.has(name)) continue;
    // What cannot be read is no leftover.
    const known = await machines.store.find(name).catch(() => name);
    if (known === undefined) await machines.store.remove(name);
  }
}

/** A directory that is still there counts, also where its machine cannot be read. */
async function removePins(tools: MigrationTools, open: Open): Promise<void> {
  const { world, layout, store } = tools;
  const uuids = [...landing(open), ...(await world.files.list(layout.machines))];
  const needed = new Set([
    ...uuids.map((uuid) => `machine:${uuid}`),
    ...open.map(({ id }) => `migration:${id}`),
  ]);
  for (const owner of (await store.pins()).keys()) {
    if (/^(machine|migration):/.test(owner) && !needed.has(owner)) await store.unpin(owner);
  }
}

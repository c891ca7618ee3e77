import type { Appliance } from "#core";
import { readErofs } from "#image";
import type { ComponentStore } from "#repository";
import { mergeFragments, type FragmentSource, type MergedFile } from "../merge.ts";
import type { GuestFacts } from "./contract.ts";

const TEXT_BYTES_MAX = 2 ** 20;

/** What the components of an appliance, all held, tell of the guest. */
export async function guestFacts(store: ComponentStore, appliance: Appliance): Promise<GuestFacts> {
  const { os, programs } = appliance;
  const components = await Promise.all([os, ...programs].map(({ id }) => store.find(id)));
  const packages = components.flatMap((one) => one?.description.packages ?? []);
  let merged: Promise<readonly MergedFile[]> | undefined;
  return {
    packages: new Set(packages.map(({ name }) => name)),
    textOf: async (path) => {
      merged ??= mergedOf(store, appliance);
      const glue = (await merged).find((file) => file.path === path);
      return glue?.text ?? (await textIn(store, appliance, path));
    },
  };
}

async function mergedOf(
  store: ComponentStore,
  { os, programs }: Appliance,
): Promise<readonly MergedFile[]> {
  const source = async ({ id, name }: Appliance["os"]): Promise<FragmentSource> => ({
    owner: name,
    fragments: await store.fragments(id),
  });
  return mergeFragments(await source(os), await Promise.all(programs.map(source)));
}

/** Of a component that keeps the file whole, the topmost first. */
async function textIn(
  store: ComponentStore,
  { os, programs }: Appliance,
  path: string,
): Promise<string> {
  for (const { id } of [...programs.toReversed(), os]) {
    const image = await store.openBlob(id);
    try {
      const entry = (await readErofs(image)).get(path.slice(1));
      if (entry?.type !== "file" || entry.content.sizeBytes > TEXT_BYTES_MAX) continue;
      const bytes = new Uint8Array(entry.content.sizeBytes);
      await entry.content.read(bytes, 0);
      return Buffer.from(bytes).toString("utf8");
    } finally {
      await image.close();
    }
  }
  return "";
}

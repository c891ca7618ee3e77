import { referenceOf, type ComponentReference, type Digest } from "#core";
import type { MigrationTools } from "./tools.ts";

/** The ids of an appliance that this repository holds. */
export async function heldOf(
  { store }: MigrationTools,
  components: readonly ComponentReference[],
): Promise<Digest[]> {
  const found = await Promise.all(components.map(({ id }) => store.find(id)));
  return found.filter((component) => component !== undefined).map((c) => referenceOf(c).id);
}

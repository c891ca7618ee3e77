import type { Digest } from "#core";
import type { ComponentStore } from "#repository";
import type { ComponentContents } from "#transfer";

/** A held component by its contents; whoever opens it closes the reader. */
export async function openContents(store: ComponentStore, id: Digest): Promise<ComponentContents> {
  const reader = await store.openContents(id);
  try {
    return { ...(await store.recipe(id)), reader };
  } catch (cause) {
    await reader.close();
    throw cause;
  }
}

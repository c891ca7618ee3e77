import { TesseraError, type Digest } from "#core";
import type { ComponentStore } from "#repository";
import type { ComponentContents, DataSource } from "#transfer";

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

export function notOffered(digest: string): TesseraError {
  const message = `${digest} is not part of what is offered`;
  return new TesseraError("peer", "transfer.not-offered", message, { subject: digest });
}

/** What a sender serves of these components; anything that is held may be a base. */
export function componentSource(
  store: ComponentStore,
  components: readonly Digest[],
): Pick<DataSource, "components" | "packs" | "openComponent" | "openBase" | "openBaseBlob"> {
  return {
    components,
    packs: store.packs,
    openComponent: async (id) => {
      if (components.includes(id)) return await openContents(store, id);
      throw notOffered(id);
    },
    openBase: async (id) =>
      (await store.find(id)) === undefined ? undefined : await openContents(store, id),
    openBaseBlob: async (digest) =>
      (await store.hasBlob(digest)) ? await store.openBlob(digest) : undefined,
  };
}

import { componentsOf, type Appliance } from "#core";
import type { BlobReader, ComponentStore } from "#repository";
import { PageIndex } from "#transfer";

/** The pages of a machine's components, read once they are asked for, and let go of when it is closed. */
export class ComponentPagesIndex {
  readonly #store: Pick<ComponentStore, "openBlob">;
  #index: Promise<PageIndex> | undefined;
  #images: Promise<BlobReader[]> | undefined;
  #life = new AbortController();

  constructor(store: Pick<ComponentStore, "openBlob">) {
    this.#store = store;
  }

  /** Takes its time the first time. A failure is not kept. */
  read(appliance: Appliance): Promise<PageIndex> {
    this.#index ??= this.#read(appliance);
    this.#index.catch(() => (this.#index = undefined));
    return this.#index;
  }

  async #read(appliance: Appliance): Promise<PageIndex> {
    const ids = componentsOf(appliance).map(({ id }) => id);
    this.#images ??= openAll(this.#store, ids);
    this.#images.catch(() => (this.#images = undefined));
    return await PageIndex.build(await this.#images, this.#life.signal);
  }

  /** Ends reading. It may be asked again after this, and reads again. */
  async close(): Promise<void> {
    this.#life.abort(new Error("the pages are not needed any more"));
    this.#life = new AbortController();
    await this.#index?.catch(() => undefined);
    const images = await this.#images?.catch(() => undefined);
    this.#index = undefined;
    this.#images = undefined;
    for (const image of images ?? []) await image.close();
  }
}

/** All, or none. */
async function openAll(
  store: Pick<ComponentStore, "openBlob">,
  ids: readonly Parameters<ComponentStore["openBlob"]>[0][],
): Promise<BlobReader[]> {
  const opened = await Promise.allSettled(ids.map((id) => store.openBlob(id)));
  const readers = opened.filter((result) => result.status === "fulfilled");
  const failure = opened.find((result) => result.status === "rejected");
  if (failure === undefined) return readers.map(({ value }) => value);
  for (const { value } of readers) await value.close();
  throw failure.reason;
}

import { hasCode, type BlobReference, type Digest, type World } from "#core";
import type { Blobs, Inspection } from "./blobs.ts";
import { isDamage, type Catalogue } from "./catalogue.ts";
import type { VerifyFinding, VerifyReport } from "./contract.ts";
import type { ComponentBlobs, IndexEntry } from "./decode.ts";
import { componentUnknown } from "./failures.ts";
import {
  digestOfName,
  ID_ANNOTATION,
  MANIFEST_TYPE,
  REFERENCE_ANNOTATION,
  type Layout,
} from "./layout.ts";

/** One pass over a repository; every blob is read and hashed once. */
export class Verification {
  readonly #world: World;
  readonly #layout: Layout;
  readonly #blobs: Blobs;
  readonly #catalogue: Catalogue;
  readonly #inspected = new Map<Digest, Inspection | undefined>();
  readonly #findings: VerifyFinding[] = [];
  #components = 0;

  constructor(world: World, layout: Layout, blobs: Blobs, catalogue: Catalogue) {
    this.#world = world;
    this.#layout = layout;
    this.#blobs = blobs;
    this.#catalogue = catalogue;
  }

  /** Everything: the components, then the blobs that belong to none. */
  async all(): Promise<VerifyReport> {
    for (const entry of (await this.#catalogue.index()).manifests) await this.#entry(entry);
    const names = await this.#world.files.list(this.#layout.blobs);
    for (const digest of names.map((name) => digestOfName(name))) {
      if (digest === undefined || this.#inspected.has(digest)) continue;
      const inspection = await this.#inspect(digest);
      if (inspection?.sound === false) this.#findings.push({ digest, problem: "digest" });
    }
    return this.#report();
  }

  /** @throws `repository.component-unknown` */
  async one(id: Digest): Promise<VerifyReport> {
    const entries = await entriesOf(this.#catalogue, id);
    if (entries.length === 0) throw componentUnknown(id);
    for (const entry of entries) await this.#entry(entry);
    return this.#report();
  }

  async #entry(entry: IndexEntry): Promise<void> {
    const manifest = { digest: entry.digest, sizeBytes: entry.size };
    const component = entry.annotations?.[REFERENCE_ANNOTATION] ?? entry.digest;
    const ours = entry.annotations?.[ID_ANNOTATION] !== undefined;
    if (ours) this.#components += 1;
    const sound = await this.#blob(manifest, component);
    if (!sound || entry.mediaType !== MANIFEST_TYPE) return;
    const blobs = await this.#structure(manifest, component, ours);
    if (blobs === undefined) return;
    let whole = true;
    for (const blob of [blobs.config, blobs.image, blobs.fragments]) {
      whole = (await this.#blob(blob, component)) && whole;
    }
    if (whole) await this.#content(entry, component);
  }

  async #structure(
    manifest: BlobReference,
    component: string,
    ours: boolean,
  ): Promise<ComponentBlobs | undefined> {
    try {
      return await this.#catalogue.blobsOf(manifest);
    } catch (error) {
      if (!hasCode(error, "repository.manifest-invalid")) throw error;
      if (ours) this.#findings.push({ digest: manifest.digest, component, problem: "manifest" });
      return undefined;
    }
  }

  /** Description and fragments can be decoded. */
  async #content(entry: IndexEntry, component: string): Promise<void> {
    try {
      const loaded = await this.#catalogue.component(entry);
      if (loaded !== undefined) await this.#catalogue.fragments(loaded);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#findings.push({ digest: entry.digest, component, problem: "manifest" });
    }
  }

  /** Checks a blob against what names it; the finding says the first thing that is wrong. */
  async #blob({ digest, sizeBytes }: BlobReference, component: string): Promise<boolean> {
    const inspection = await this.#inspect(digest);
    const problem = problemOf(inspection, sizeBytes);
    if (problem === undefined) return true;
    this.#findings.push({ digest, component, problem });
    return false;
  }

  async #inspect(digest: Digest): Promise<Inspection | undefined> {
    if (!this.#inspected.has(digest)) {
      this.#inspected.set(digest, await this.#blobs.inspect(digest));
    }
    return this.#inspected.get(digest);
  }

  /** What was removed while we were reading is not a finding. */
  async #report(): Promise<VerifyReport> {
    const { manifests } = await this.#catalogue.index();
    const names = new Set(
      manifests.map((entry) => entry.annotations?.[REFERENCE_ANNOTATION] ?? entry.digest),
    );
    const inspected = [...this.#inspected.values()].filter((blob) => blob !== undefined);
    return {
      components: this.#components,
      blobs: inspected.length,
      bytes: inspected.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      findings: this.#findings.filter(
        ({ component }) => component === undefined || names.has(component),
      ),
    };
  }
}

function problemOf(
  inspection: Inspection | undefined,
  sizeBytes: number,
): VerifyFinding["problem"] | undefined {
  if (inspection === undefined) return "missing";
  if (inspection.sizeBytes !== sizeBytes) return "size";
  return inspection.sound ? undefined : "digest";
}

/** The entries of a component, by its annotation so that a corrupt manifest does not hide it. */
export async function entriesOf(catalogue: Catalogue, id: Digest): Promise<IndexEntry[]> {
  const { manifests } = await catalogue.index();
  const component = (await catalogue.components()).find((candidate) => candidate.id === id);
  return manifests.filter(
    (entry) =>
      entry.annotations?.[ID_ANNOTATION] === id || entry.digest === component?.manifest.digest,
  );
}

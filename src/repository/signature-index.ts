import { hasCode, type Component, type ComponentSignature, type Digest } from "#core";
import { isDamage } from "./catalogue.ts";
import type { IndexEntry } from "./decode.ts";
import { MANIFEST_TYPE, REFERENCE_ANNOTATION } from "./layout.ts";
import type { Parts } from "./parts.ts";
import {
  packageSignatures,
  readSignatures,
  SIGNATURES_BYTES_MAX,
  SIGNATURES_MAX,
  signatureTag,
  type SignaturePackage,
} from "./signature.ts";

type SignatureParts = Pick<Parts, "world" | "blobs" | "leases" | "catalogue">;

/** The signatures of held components: artifacts in the index beside the components themselves. */
export class SignatureIndex {
  readonly #parts: SignatureParts;

  constructor(parts: SignatureParts) {
    this.#parts = parts;
  }

  /** None where there is no artifact, or one that cannot be read. */
  async of(component: Component): Promise<ComponentSignature[]> {
    const entry = entryOf((await this.#parts.catalogue.index()).manifests, component);
    if (entry === undefined) return [];
    try {
      const content = await this.#parts.blobs.read(entry.digest, SIGNATURES_BYTES_MAX);
      return readSignatures(component, content);
    } catch (error) {
      if (!isDamage(error) && !hasCode(error, "system.too-large")) throw error;
      const fields = { component: component.id, code: error.code };
      this.#parts.world.log.log("warn", "signatures cannot be read", fields);
      return [];
    }
  }

  /**
   * Adds signatures to those that are there, one for each key. What others bring displaces nothing.
   *
   * @param put makes the blobs of a package held
   */
  async add(
    component: Component,
    {
      signatures,
      own,
    }: { readonly signatures: readonly ComponentSignature[]; readonly own: boolean },
    put: (packed: SignaturePackage) => Promise<void>,
  ): Promise<void> {
    const merge = (old: readonly ComponentSignature[]): ComponentSignature[] =>
      firstOfEachKey(own ? [...signatures, ...old] : [...old, ...signatures]);
    while (!(await this.#tryAdd(component, merge, put))) {
      // Somebody else has added one meanwhile: begin with what is there now.
    }
  }

  async #tryAdd(
    component: Component,
    merge: (old: readonly ComponentSignature[]) => ComponentSignature[],
    put: (packed: SignaturePackage) => Promise<void>,
  ): Promise<boolean> {
    const { catalogue, leases } = this.#parts;
    const before = entryOf((await catalogue.index()).manifests, component)?.digest;
    const packed = packageSignatures(component, merge(await this.of(component)));
    await put(packed);
    const added = await catalogue.exclusively(async () => {
      const index = await catalogue.index();
      const old = entryOf(index.manifests, component);
      if (old?.digest !== before) return false;
      const others = index.manifests.filter((entry) => entry !== old);
      await catalogue.replace(index, [...others, newEntry(component, packed)]);
      return true;
    });
    await leases.drop([packed.manifest, ...packed.blobs].map(({ digest }) => digest));
    return added;
  }
}

function firstOfEachKey(signatures: readonly ComponentSignature[]): ComponentSignature[] {
  const byKey = new Map(signatures.toReversed().map((one) => [one.key, one]));
  const keys = new Set(signatures.map(({ key }) => key));
  return [...keys].flatMap((key) => byKey.get(key) ?? []).slice(0, SIGNATURES_MAX);
}

function entryOf(
  entries: readonly IndexEntry[],
  { manifest }: Pick<Component, "manifest">,
): IndexEntry | undefined {
  const tag = signatureTag(manifest.digest);
  return entries.find((entry) => entry.annotations?.[REFERENCE_ANNOTATION] === tag);
}

function newEntry({ manifest }: Component, packed: SignaturePackage): IndexEntry {
  return {
    mediaType: MANIFEST_TYPE,
    digest: packed.manifest.digest,
    size: packed.manifest.sizeBytes,
    annotations: { [REFERENCE_ANNOTATION]: signatureTag(manifest.digest) },
  };
}

/** The entries without the signatures of manifests that go. */
export function withoutSignatures(
  entries: readonly IndexEntry[],
  gone: ReadonlySet<Digest>,
): IndexEntry[] {
  const tags = new Set([...gone].map(signatureTag));
  return entries.filter((entry) => !tags.has(entry.annotations?.[REFERENCE_ANNOTATION] ?? ""));
}

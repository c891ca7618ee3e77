/** Container images from registries, as OCI image layouts on disk. */
import { join } from "node:path";
import { hexOf, TesseraError, type BlobReference, type World } from "#core";
import {
  chooseManifest,
  CONTAINER_TYPES,
  decodeContainerManifest,
  IMAGE_JSON_BYTES_MAX,
  isIndexType,
  type Platform,
} from "#repository";
import type { CarryOptions, RegistryAccess, RegistryReference } from "./contract.ts";
import { downloadBlob } from "./download.ts";
import { fetchManifest } from "./manifests.ts";
import { Session } from "./session.ts";

const INDEXES_MAX = 4;
const REFERENCE = "org.opencontainers.image.ref.name";

export interface ImageWish {
  readonly target: RegistryReference;
  readonly access: RegistryAccess;
  readonly platform: Platform;
  /** An empty directory, for the layout. */
  readonly directory: string;
}

/**
 * Fetches one image. Sizes are as its manifest says and leave half of the free space; whoever reads
 * the layout compares the digests of its blobs.
 *
 * @throws `registry.manifest-not-found`, `registry.image-too-large`, `registry.protocol`,
 *   `registry.access-refused`, `registry.unreachable`, `repository.container-…`
 */
export async function fetchContainerImage(
  world: World,
  { target, access, platform, directory }: ImageWish,
  options: CarryOptions = {},
): Promise<void> {
  const { host, name } = target;
  const session = new Session(world, { host, name, writes: false }, access, options);
  const layout = new LayoutWriter(world, directory);
  try {
    await layout.begin();
    const manifest = await manifestFor(session, target, platform);
    const { config, layers } = decodeContainerManifest(manifest.content);
    await requireRoom(world, directory, [config, ...layers]);
    await layout.write(manifest, manifest.content);
    for (const blob of [config, ...layers]) await layout.fetch(session, blob);
    await layout.end(manifest, `${name.split("/").at(-1) ?? name}:${target.tag ?? ""}`);
  } finally {
    session.close();
  }
}

type Fetched = Awaited<ReturnType<typeof fetchManifest>>;

async function manifestFor(
  session: Session,
  target: RegistryReference,
  platform: Platform,
): Promise<Fetched> {
  const wish = { mediaTypes: CONTAINER_TYPES, bytesMax: IMAGE_JSON_BYTES_MAX };
  let found = await fetchManifest(session, target, wish);
  for (let depth = 0; depth < INDEXES_MAX && isIndexType(found.mediaType); depth += 1) {
    const { digest } = chooseManifest(found.content, { platform });
    found = await fetchManifest(session, { ...target, digest }, wish);
  }
  return found;
}

async function requireRoom(
  world: World,
  directory: string,
  blobs: readonly BlobReference[],
): Promise<void> {
  const bytes = blobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (bytes <= (await world.files.freeBytes(directory)) / 2) return;
  const message = `the container image has ${bytes} bytes, more than half of what is free`;
  throw new TesseraError("environment", "registry.image-too-large", message, {
    subject: directory,
    remedy: "make room below the agent's state directory",
  });
}

class LayoutWriter {
  readonly #world: World;
  readonly #directory: string;
  readonly #done = new Set<string>();

  constructor(world: World, directory: string) {
    this.#world = world;
    this.#directory = directory;
  }

  async begin(): Promise<void> {
    await this.#world.files.makeDirectory(join(this.#directory, "blobs", "sha256"), 0o700);
  }

  async write({ digest }: BlobReference, content: Uint8Array): Promise<void> {
    await this.#world.files.writeFileAtomic(this.#path(digest), content, 0o600);
  }

  async fetch(session: Session, blob: BlobReference): Promise<void> {
    if (this.#done.has(blob.digest)) return;
    this.#done.add(blob.digest);
    const file = await this.#world.files.open(this.#path(blob.digest), "create", 0o600);
    let writtenBytes = 0;
    const target = {
      get writtenBytes() {
        return writtenBytes;
      },
      append: async (bytes: Uint8Array) => {
        await file.write(bytes, writtenBytes);
        writtenBytes += bytes.length;
      },
    };
    try {
      await downloadBlob(session, blob, target, () => undefined);
    } finally {
      await file.close();
    }
  }

  async end({ digest, sizeBytes, mediaType }: Fetched, name: string): Promise<void> {
    const annotations = { [REFERENCE]: name };
    const manifests = [{ mediaType, digest, size: sizeBytes, annotations }];
    const index = { schemaVersion: 2, manifests };
    const { files } = this.#world;
    await files.writeFileAtomic(join(this.#directory, "index.json"), JSON.stringify(index), 0o600);
  }

  #path(digest: BlobReference["digest"]): string {
    return join(this.#directory, "blobs", "sha256", hexOf(digest));
  }
}

/** The files of a container image, in a directory or in an archive. */
import { join } from "node:path";
import type { World } from "#core";
import { fileSource, readAll, readTar, type ContentSource, type Tree } from "#image";
import { damaged, unsupported } from "../errors.ts";

export interface ImageFiles {
  readonly kind: "oci" | "docker";
  /** @throws `import.image-damaged` (corrupt) when it is not there */
  open(path: string): Promise<ContentSource>;
  close(): Promise<void>;
}

/** @throws `import.container-not-found` by the caller; `import.image-damaged`, `import.unsupported` */
export async function openImageFiles(world: World, path: string): Promise<ImageFiles> {
  const status = await world.files.status(path);
  return status?.kind === "directory" ? directoryFiles(world, path) : archiveFiles(world, path);
}

/** Only names of ours are opened: `index.json` and blobs by their digest. */
function directoryFiles(world: World, directory: string): ImageFiles {
  const opened: { close(): Promise<void> }[] = [];
  return {
    kind: "oci",
    open: async (name) => {
      const place = join(directory, name);
      if ((await world.files.status(place))?.kind !== "file") {
        throw damaged(directory, `it has no ${name}`);
      }
      const source = await fileSource(world, place);
      opened.push(source);
      return source;
    },
    close: async () => {
      for (const source of opened) await source.close();
    },
  };
}

async function archiveFiles(world: World, path: string): Promise<ImageFiles> {
  const source = await fileSource(world, path);
  try {
    await refusePacked(path, source);
    const tree = await readTar(source);
    const isOci = tree.get("index.json") !== undefined && tree.get("oci-layout") !== undefined;
    const isDocker = tree.get("manifest.json") !== undefined;
    if (!isOci && !isDocker) throw unsupported(path, "what is no container image", REMEDY);
    return {
      kind: isOci ? "oci" : "docker",
      open: async (name) => fileIn(tree, path, name),
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

const REMEDY = 'give a directory with an OCI layout, or what "docker save" or "skopeo copy" writes';

async function refusePacked(path: string, source: ContentSource): Promise<void> {
  if (source.sizeBytes < 4) throw unsupported(path, "what is no archive", REMEDY);
  const head = await readAll({ sizeBytes: 4, read: (to, at) => source.read(to, at) }, 4);
  const packed = compressionOf(head) !== undefined;
  if (packed) throw unsupported(path, "a compressed archive", "decompress it first");
}

/** By the magic number; undefined for what is not compressed. */
export function compressionOf(head: Uint8Array): "gzip" | "zstd" | undefined {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip";
  const isZstd = head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd;
  return isZstd ? "zstd" : undefined;
}

/** Older archives of Docker link equal layers to one another. */
function fileIn(tree: Tree, archive: string, name: string): ContentSource {
  const path = plain(name.split("/"));
  const entry = tree.get(path);
  const target =
    entry?.type === "symlink"
      ? tree.get(plain([...path.split("/").slice(0, -1), ...entry.target.split("/")]))
      : entry;
  if (target?.type === "file") return target.content;
  throw damaged(archive, `it has no ${name.slice(0, 256)}`);
}

function plain(names: readonly string[]): string {
  const path: string[] = [];
  for (const name of names) {
    if (name === "..") path.pop();
    else if (name !== "" && name !== ".") path.push(name);
  }
  return path.join("/");
}

/** Container images as components; specified in doc/container-images.md. */
import { hash } from "node:crypto";
import {
  reportOf,
  TesseraError,
  type Component,
  type ComponentDescription,
  type Digest,
  type PackageReference,
  type World,
} from "#core";
import { mergeTrees, readContainerLayer, type Tree } from "#image";
import type { ComponentStore } from "#repository";
import { makeComponent } from "../components.ts";
import { installedPackages } from "../dpkg.ts";
import { entryAt } from "../paths.ts";
import type { ContainerRequest, ContainerResult } from "./contract.ts";
import { openImageFiles } from "./files.ts";
import {
  groupLayers,
  wholeImage,
  withMountPoints,
  type LayerGroup,
  type NumberedLayer,
} from "./groups.ts";
import { findImage, type FoundImage } from "./manifest.ts";
import { Unpacker, type UnpackedLayer } from "./unpack.ts";

/** Debian's names of architectures, by those of containers. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  amd64: "amd64",
  arm64: "arm64",
  "386": "i386",
  arm: "armhf",
  riscv64: "riscv64",
  s390x: "s390x",
  ppc64le: "ppc64el",
};

const NAME = /^[a-z0-9][a-z0-9.+_-]{0,100}$/;
const VERSION = /^[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,100}$/;
const VERSION_LABEL = "org.opencontainers.image.version";

/**
 * Adds the components of a container image. Of a failure none that was made for it is left.
 *
 * @throws `import.image-damaged`, `import.unsupported`, `import.too-large`, `import.name-needed`,
 *   `repository.container-…`, `image.tar-invalid`, `image.overlay-unsupported`
 */
export async function addContainerImage(
  world: World,
  store: ComponentStore,
  request: ContainerRequest,
): Promise<ContainerResult> {
  const files = await openImageFiles(world, request.path);
  const opened: UnpackedLayer[] = [];
  try {
    const image = await findImage(files, request);
    const { name, version } = namesOf(image, request);
    const layers = await readLayers(world, image, request, opened);
    const groups = request.layers ? groupLayers(layers) : wholeImage(layers);
    const components = await addAll(world, store, { groups, image, request, name, version });
    return { components, remarks: remarksOf(layers, groups, request) };
  } finally {
    for (const layer of opened) await layer.close();
    await files.close();
  }
}

async function readLayers(
  world: World,
  { layers }: FoundImage,
  { directory, signal }: ContainerRequest,
  opened: UnpackedLayer[],
): Promise<NumberedLayer[]> {
  const unpacker = new Unpacker(world, directory, signal);
  const read: NumberedLayer[] = [];
  let below = mergeTrees([]);
  for (const [number, found] of layers.entries()) {
    const unpacked = await unpacker.unpack(found, number);
    opened.push(unpacked);
    const layer = await readContainerLayer(unpacked, below);
    below = mergeTrees([below, layer.tree]);
    read.push({ layer, diffId: found.diffId });
  }
  return read;
}

interface Work {
  readonly groups: readonly LayerGroup[];
  readonly image: FoundImage;
  readonly request: ContainerRequest;
  readonly name: string;
  readonly version: string;
}

async function addAll(world: World, store: ComponentStore, work: Work): Promise<Component[]> {
  const owner = `import:${world.random.uuid()}`;
  const made: Component[] = [];
  const before = new Set((await store.list()).map(({ id }) => id));
  const known = new Set<string>();
  try {
    for (const [index, group] of work.groups.entries()) {
      const tree = index === 0 ? withMountPoints(group.tree) : group.tree;
      const packages = await freshPackages(tree, known);
      const os = made[0]?.description.name;
      const description = descriptionOf(work, { group, index, packages, os });
      made.push(await makeComponent(store, { tree, description, owner }));
    }
    return made;
  } catch (error) {
    await store.unpin(owner);
    for (const { id } of made) if (!before.has(id)) await removed(world, store, id);
    throw error;
  } finally {
    await store.unpin(owner);
  }
}

async function removed(world: World, store: ComponentStore, id: Digest): Promise<void> {
  await store.remove(id).catch((error: unknown) => {
    const message = "a component of a failed container image stays";
    world.log.log("warn", message, { ...reportOf(error) });
  });
}

/** The packages of a layer's database that no lower layer has; notes them. */
async function freshPackages(tree: Tree, known: Set<string>): Promise<PackageReference[]> {
  const fresh = (await installedPackages(tree)).filter(
    ({ name, version, architecture }) => !known.has(`${name} ${version} ${architecture}`),
  );
  for (const { name, version, architecture } of fresh)
    known.add(`${name} ${version} ${architecture}`);
  return fresh;
}

function descriptionOf(
  { image, name, version }: Work,
  part: {
    readonly group: LayerGroup;
    readonly index: number;
    readonly packages: readonly PackageReference[];
    readonly os: string | undefined;
  },
): ComponentDescription {
  const { group, index, packages, os = name } = part;
  const origin = `tessera container 1\n${group.diffIds.join("\n")}\n`;
  const { architecture } = image.platform;
  return {
    kind: index === 0 ? "os" : "program",
    name: index === 0 ? name : `${name}-layer-${index + 1}`,
    version,
    architecture: ARCHITECTURES[architecture] ?? architecture,
    packages,
    provides: index === 0 ? [{ type: "os", name }] : [],
    requires: index === 0 ? [] : [{ type: "os", name: os }],
    instancePaths: [],
    recipe: `sha256:${hash("sha256", origin, "hex")}`,
  };
}

function namesOf(
  { name: said, labels, digest }: FoundImage,
  request: ContainerRequest,
): { readonly name: string; readonly version: string } {
  const last = said?.split("/").at(-1)?.split("@", 1)[0] ?? "";
  const [own = "", tag = ""] = last.includes(":") ? last.split(":", 2) : ["", last];
  const name = request.name ?? own;
  if (!NAME.test(name)) throw nameNeeded(name);
  const digits = digest.slice("sha256:".length).slice(0, 12);
  const told = [request.version, labels[VERSION_LABEL], /^v?\d/.test(tag) ? tag : undefined];
  const version = told.find((text) => text !== undefined && VERSION.test(text)) ?? `0-${digits}`;
  return { name, version };
}

function nameNeeded(name: string): TesseraError {
  const what = name === "" ? "the image has no name" : `"${name}" is no component's name`;
  return new TesseraError("misuse", "import.name-needed", what, {
    subject: name,
    remedy: "give --name with lower-case letters, digits and . + _ -",
  });
}

function remarksOf(
  layers: readonly NumberedLayer[],
  groups: readonly LayerGroup[],
  request: ContainerRequest,
): string[] {
  const whole = mergeTrees(groups.map(({ tree }) => tree));
  const init = ["/sbin/init", "/usr/sbin/init"].some((path) => entryAt(whole, path) !== undefined);
  const joined = groups.reduce((sum, { diffIds }) => sum + diffIds.length, 0) - groups.length;
  return [
    ...(init ? [] : ["it has no /sbin/init: a machine of it alone does not boot"]),
    ...(request.layers && joined > 0
      ? [
          `${joined} of ${layers.length} layers are joined with lower ones, of which they remove files`,
        ]
      : []),
  ];
}

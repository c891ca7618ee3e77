/** Looking at an image: what it holds, and which component would have which of it. */
import { TesseraError, type ComponentKind, type World } from "#core";
import { readAll, type Tree, type TreeEntry } from "#image";
import type { ComponentStore } from "#repository";
import type { ImportRequest, ImportSurvey } from "./contract.ts";
import { unreadDatabase } from "./databases.ts";
import { decompose, type Distribution, type Part } from "./decompose.ts";
import { readPackages, type PackageDatabase } from "./dpkg.ts";
import { describeImage } from "./described/describe.ts";
import { holedPaths, intactPaths } from "./intact.ts";
import { kernelParts, newestKernel, type FoundKernel } from "./kernel.ts";
import { openImage, type OpenedImage } from "./open.ts";
import { entryAt } from "./paths.ts";
import { contentBytes, type FineTree } from "./tree.ts";
import { readVolumes } from "./volumes.ts";

const OS_RELEASE_BYTES_MAX = 65_536;

export interface SurveyedImage {
  readonly opened: OpenedImage;
  readonly fine: FineTree;
  readonly parts: readonly Part[];
  /** As Debian names it. */
  readonly architecture: string;
  /** Without ids, which making the components gives. */
  readonly survey: Omit<ImportSurvey, "parts">;
}

async function textAt(tree: Tree, path: string): Promise<string> {
  const entry = entryAt(tree, path);
  if (entry?.type !== "file" || entry.content.sizeBytes > OS_RELEASE_BYTES_MAX) return "";
  return Buffer.from(await readAll(entry.content, OS_RELEASE_BYTES_MAX)).toString("utf8");
}

/** os-release(5); of Debian the point release. */
async function distributionOf(tree: Tree): Promise<Distribution> {
  const text = await textAt(tree, "/etc/os-release");
  const value = (key: string): string => {
    const found = new RegExp(`^${key}=(.*)$`, "m").exec(text)?.[1] ?? "";
    return found.trim().replaceAll(/^["']|["']$/g, "");
  };
  const id = value("ID");
  const point = (await textAt(tree, "/etc/debian_version")).trim();
  const release = value("VERSION_ID");
  const name = id === "" ? "unknown" : [id, release].filter((part) => part !== "").join("-");
  return { name, version: (id === "debian" ? point : release) || "0" };
}

/** dpkg's own; without it that of the kernel component, or of the only kernels that are unpacked. */
async function architectureOf(
  store: ComponentStore,
  { kernel }: ImportRequest,
  database: PackageDatabase | undefined,
): Promise<string> {
  const dpkg = database?.packages.find(({ name }) => name === "dpkg");
  if (dpkg !== undefined) return dpkg.architecture;
  const component = kernel === undefined ? undefined : await store.find(kernel);
  return component?.description.architecture ?? "amd64";
}

function sumOf(entries: readonly TreeEntry[]): { files: number; bytes: number } {
  const files = entries.filter(({ type }) => type !== "directory").length;
  return { files, bytes: contentBytes(entries) };
}

function classesOf(tree: Tree, parts: readonly Part[]): ImportSurvey["classes"] {
  const taken = new Set<string>();
  const own = (kind: ComponentKind) => {
    const entries = parts
      .filter((part) => part.kind === kind)
      .flatMap((part) => part.entries.flatMap(({ path }) => tree.get(path) ?? []));
    for (const { path } of entries) taken.add(path);
    return sumOf(entries);
  };
  const [kernel, os, program] = [own("kernel"), own("os"), own("program")];
  const userData = sumOf(tree.entries.filter(({ path }) => !taken.has(path)));
  return { kernel, os, program, userData };
}

function packageSums(tree: Tree, database: PackageDatabase | undefined, parts: readonly Part[]) {
  if (database === undefined) {
    const unread = unreadDatabase(tree);
    return { count: 0, bytes: 0, intactBytes: 0, ...(unread === undefined ? {} : { unread }) };
  }
  const inParts = new Set(parts.flatMap(({ entries }) => entries.map(({ path }) => path)));
  const paths = [...database.owned.keys()];
  const entries = paths.flatMap((path) => tree.get(path) ?? []);
  return {
    count: database.packages.length,
    bytes: contentBytes(entries),
    intactBytes: contentBytes(entries.filter(({ path }) => inParts.has(path))),
  };
}

function noKernel(): TesseraError {
  const message = "the image has no kernel of its own that a component can be made of";
  return new TesseraError("misuse", "import.kernel-not-found", message, {
    remedy: "name a kernel component to start the machine with: --kernel NAME",
  });
}

function ownKernel(tree: Tree, request: ImportRequest): FoundKernel | undefined {
  if (request.kernel !== undefined) return undefined;
  const kernel = newestKernel(tree);
  if (kernel === undefined) throw noKernel();
  return kernel;
}

/**
 * Opens and reads an image. The caller closes what was opened, after contents were read.
 *
 * @throws `import.kernel-not-found`, `import.kernel-unsuitable`, and what opening, reading volumes
 *   and packages, and unpacking the kernel throw
 */
export async function surveyImage(
  world: World,
  store: ComponentStore,
  request: ImportRequest,
): Promise<SurveyedImage> {
  const { path, backing, directory, progress, signal } = request;
  progress({ step: "read", detail: path });
  const { description, ...place } = await describeImage(world, request);
  const chain = { directories: backing, ...place };
  const opened = await openImage(world, path, chain, directory);
  try {
    const volumes = await readVolumes(opened.device, request.partition);
    const { fine } = volumes;
    signal.throwIfAborted();
    const database = await readPackages(fine.tree);
    const distribution = await distributionOf(fine.tree);
    const kernel = ownKernel(fine.tree, request);
    const tell = (done: number, total: number): void => {
      signal.throwIfAborted();
      progress({ step: "classify", detail: distribution.name, done, total });
    };
    const intact =
      database === undefined ? new Set<string>() : await intactPaths(fine, database, tell);
    const holed = database === undefined ? await holedPaths(fine) : new Set<string>();
    const kernelExtra =
      kernel === undefined ? [] : await kernelParts(world, store, fine.tree, kernel, directory);
    const parts = decompose({ fine, distribution, database, intact, holed, kernel, kernelExtra });
    const survey = {
      ...(description === undefined ? {} : { description }),
      format: opened.format,
      sizeBytes: opened.device.sizeBytes,
      allocatedBytes: await opened.allocatedBytes(),
      distribution: distribution.name,
      ...(kernel === undefined ? {} : { kernelRelease: kernel.release }),
      volumes: volumes.volumes,
      leftFstab: volumes.left,
      classes: classesOf(fine.tree, parts),
      packages: packageSums(fine.tree, database, parts),
    };
    const architecture = await architectureOf(store, request, database);
    return { opened, fine, parts, architecture, survey };
  } catch (cause) {
    await opened.close();
    throw cause;
  }
}

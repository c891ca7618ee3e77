/** What dpkg and apt know about a machine's files (dpkg(1), deb(5), dpkg-divert(1)). */
import { field, parseRelations, parseStanzas, type Stanza } from "#build";
import type { Constraint, PackageReference } from "#core";
import { readAll, type Tree } from "#image";
import { damaged } from "./errors.ts";
import { entryAt, placesIn } from "./paths.ts";

const STATUS_BYTES_MAX = 64 * 2 ** 20;
const LIST_BYTES_MAX = 16 * 2 ** 20;
const PACKAGES_MAX = 50_000;
const NAME = /^[a-z0-9][a-z0-9.+-]*$/;
const ARCHITECTURE = /^[a-z0-9-]+$/;
const MD5 = /^([0-9a-f]{32})\s+(.+)$/;
/** What dpkg keeps about a package beside the list of its files, which installing writes. */
const CONTROL_FILES: readonly string[] = [
  "conffiles",
  "config",
  "md5sums",
  "postinst",
  "postrm",
  "preinst",
  "prerm",
  "shlibs",
  "symbols",
  "templates",
  "triggers",
];

export interface InstalledPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly priority: string;
  readonly essential: boolean;
  /** Was it installed only because others need it? */
  readonly automatic: boolean;
  readonly depends: readonly Constraint[];
  /** Its own name and those that it provides. */
  readonly provides: readonly string[];
}

/** A file that a package has brought. */
export interface OwnedFile {
  readonly package: InstalledPackage;
  /** Of the content as packaged; absent for links and what has no sum. */
  readonly md5?: string;
  /** One of the files of dpkg itself about the package. */
  readonly isControl?: boolean;
}

export interface PackageDatabase {
  readonly packages: readonly InstalledPackage[];
  /** By path in the tree; directories are nobody's. */
  readonly owned: ReadonlyMap<string, OwnedFile>;
}

async function textAt(tree: Tree, path: string, bytesMax: number): Promise<string | undefined> {
  const entry = entryAt(tree, path);
  if (entry?.type !== "file") return undefined;
  if (entry.content.sizeBytes > bytesMax)
    throw damaged(path, "it is too long for what it should be");
  return Buffer.from(await readAll(entry.content, bytesMax)).toString("utf8");
}

/** Names, with the architecture where several may be installed side by side. */
const keyOf = (name: string, architecture: string): string => `${name}:${architecture}`;

async function automaticPackages(tree: Tree): Promise<ReadonlySet<string>> {
  const text = (await textAt(tree, "/var/lib/apt/extended_states", STATUS_BYTES_MAX)) ?? "";
  const marked = parseStanzas(text).filter((stanza) => field(stanza, "Auto-Installed") === "1");
  return new Set(marked.map((s) => keyOf(field(s, "Package"), field(s, "Architecture"))));
}

/** The packages that a tree's database has as installed; none where it has no database. */
export async function installedPackages(tree: Tree): Promise<PackageReference[]> {
  const text = (await textAt(tree, "/var/lib/dpkg/status", STATUS_BYTES_MAX)) ?? "";
  return parseStanzas(text)
    .filter(isInstalled)
    .slice(0, PACKAGES_MAX)
    .map((stanza) => ({
      name: field(stanza, "Package"),
      version: field(stanza, "Version"),
      architecture: field(stanza, "Architecture"),
    }));
}

function packageOf(stanza: Stanza, automatic: ReadonlySet<string>): InstalledPackage {
  const name = field(stanza, "Package");
  const architecture = field(stanza, "Architecture");
  const relations = ["Pre-Depends", "Depends"].flatMap((key) => parseRelations(field(stanza, key)));
  const provided = parseRelations(field(stanza, "Provides")).map((offer) => offer.name);
  return {
    name,
    version: field(stanza, "Version"),
    architecture,
    priority: field(stanza, "Priority"),
    essential: field(stanza, "Essential") === "yes",
    automatic: automatic.has(keyOf(name, architecture)),
    depends: relations,
    provides: [name, ...provided],
  };
}

function isInstalled(stanza: Stanza): boolean {
  const [, , state] = field(stanza, "Status").split(" ");
  const named =
    NAME.test(field(stanza, "Package")) && ARCHITECTURE.test(field(stanza, "Architecture"));
  return named && field(stanza, "Version") !== "" && state === "installed";
}

interface Files {
  readonly tree: Tree;
  readonly place: (path: string) => string | undefined;
  readonly diversions: ReadonlyMap<string, { readonly to: string; readonly by: string }>;
  /** Paths below which packages have files. */
  readonly directories: ReadonlySet<string>;
}

async function readDiversions(tree: Tree) {
  const text = (await textAt(tree, "/var/lib/dpkg/diversions", LIST_BYTES_MAX)) ?? "";
  const lines = text.split("\n");
  const diversions = new Map<string, { to: string; by: string }>();
  for (let at = 0; at + 2 < lines.length; at += 3) {
    diversions.set(lines[at] ?? "", { to: lines[at + 1] ?? "", by: lines[at + 2] ?? "" });
  }
  return diversions;
}

/** The sums of the files of a package, by path of the machine. */
async function sumsOf(tree: Tree, base: string, stanza: Stanza): Promise<Map<string, string>> {
  const sums = new Map<string, string>();
  for (const line of ((await textAt(tree, `${base}.md5sums`, LIST_BYTES_MAX)) ?? "").split("\n")) {
    const [, sum, path] = MD5.exec(line) ?? [];
    if (sum !== undefined && path !== undefined) sums.set(`/${path}`, sum);
  }
  for (const line of (stanza.fields.get("Conffiles") ?? "").split("\n")) {
    const [, path, sum] = /^(\/.+) ([0-9a-f]{32})(?: .*)?$/.exec(line.trim()) ?? [];
    if (sum !== undefined && path !== undefined) sums.set(path, sum);
  }
  return sums;
}

/** A package with its own words about its files. */
interface Listed {
  readonly owner: InstalledPackage;
  /** What its files in the database begin with. */
  readonly base: string;
  readonly paths: readonly string[];
  readonly sums: ReadonlyMap<string, string>;
}

async function listed(tree: Tree, stanza: Stanza, owner: InstalledPackage): Promise<Listed> {
  const info = "/var/lib/dpkg/info";
  const several = `${info}/${owner.name}:${owner.architecture}`;
  const base = entryAt(tree, `${several}.list`) === undefined ? `${info}/${owner.name}` : several;
  const lines = ((await textAt(tree, `${base}.list`, LIST_BYTES_MAX)) ?? "").split("\n");
  const paths = lines.filter((path) => path.startsWith("/") && path !== "/.");
  return { owner, base, paths, sums: await sumsOf(tree, base, stanza) };
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf("/")));

function ownFiles(files: Files, item: Listed, owned: Map<string, OwnedFile>): void {
  const { tree, place, diversions, directories } = files;
  const { owner, base, paths, sums } = item;
  for (const path of paths) {
    const diversion = diversions.get(path);
    const diverted = diversion !== undefined && diversion.by !== owner.name;
    const at = place(diverted ? diversion.to : path);
    const type = at === undefined ? undefined : tree.get(at)?.type;
    if (at === undefined || type === undefined || type === "directory" || owned.has(at)) continue;
    /* A directory of packages that the machine has as a link, as with a merged /usr. */
    if (type === "symlink" && directories.has(path)) continue;
    const md5 = sums.get(path);
    owned.set(at, { package: owner, ...(md5 === undefined ? {} : { md5 }) });
  }
  for (const kind of CONTROL_FILES) {
    const at = place(`${base}.${kind}`);
    if (at !== undefined && tree.get(at)?.type === "file") {
      owned.set(at, { package: owner, isControl: true });
    }
  }
}

/**
 * The installed packages and their files; undefined where dpkg has installed none.
 *
 * @throws `import.image-damaged` (corrupt) for a database of absurd size
 */
export async function readPackages(tree: Tree): Promise<PackageDatabase | undefined> {
  const status = await textAt(tree, "/var/lib/dpkg/status", STATUS_BYTES_MAX);
  if (status === undefined) return undefined;
  const stanzas = parseStanzas(status).filter(isInstalled);
  if (stanzas.length === 0) return undefined;
  if (stanzas.length > PACKAGES_MAX)
    throw damaged("the package database", "it has too many packages");
  const automatic = await automaticPackages(tree);
  const lists: Listed[] = [];
  for (const stanza of stanzas) {
    lists.push(await listed(tree, stanza, packageOf(stanza, automatic)));
  }
  const directories = new Set(lists.flatMap(({ paths }) => paths.map(parentOf)));
  const diversions = await readDiversions(tree);
  const files = { tree, place: placesIn(tree), diversions, directories };
  const owned = new Map<string, OwnedFile>();
  for (const item of lists) ownFiles(files, item, owned);
  return { packages: lists.map(({ owner }) => owner), owned };
}

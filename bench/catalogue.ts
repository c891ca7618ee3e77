/**
 * `make catalogue`: the simulator's catalogue of components from Debian's package index: what the
 * kernels, operating systems and programs of bookworm (main, amd64) take with their dependencies,
 * and which of them have a newer version in the security suite. Writes
 * `src/simulator/data/debian-12.json`.
 *
 * Which programs are popular: Debian's popularity contest is not asked, so programs are ranked by
 * how many packages of the archive depend on, recommend or suggest them, and the simulator draws
 * by rank (Zipf). Sizes are `Installed-Size` over the closure of dependencies that the operating
 * system lacks; packed sizes are those of the .deb files.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { compareDebianVersions } from "#core";

const DATA = resolve(import.meta.dirname, "../src/simulator/data/debian-12.json");
const MIRROR = "http://deb.debian.org";
const RELEASE = `${MIRROR}/debian/dists/bookworm/main/binary-amd64/Packages.xz`;
const SECURITY = `${MIRROR}/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz`;
const PROGRAMS = 400;
/** Sections whose packages a machine is made for. */
const SECTIONS = new Set([
  "admin",
  "comm",
  "database",
  "devel",
  "hamradio",
  "httpd",
  "interpreters",
]);
for (const name of ["java", "javascript", "mail", "math", "misc", "net", "news", "php"]) {
  SECTIONS.add(name);
}
for (const name of ["ruby", "science", "shells", "sound", "text", "utils", "vcs", "video", "web"]) {
  SECTIONS.add(name);
}

interface Package {
  readonly name: string;
  readonly version: string;
  readonly priority: string;
  readonly section: string;
  readonly installedKiB: number;
  readonly packedKiB: number;
  /** Alternatives of each need, by name. */
  readonly needs: readonly (readonly string[])[];
  readonly mentions: readonly string[];
  readonly provides: readonly string[];
}

function must(program: string, ...args: readonly string[]): Buffer {
  const { status, stdout, stderr } = spawnSync(program, args, { maxBuffer: 2 ** 29 });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(" ")}: ${stderr.toString()}`);
}

function index(url: string): string {
  const directory = mkdtempSync(join(tmpdir(), "tessera-catalogue-"));
  try {
    const file = join(directory, "Packages.xz");
    must("/usr/lib/apt/apt-helper", "download-file", url, file);
    return must("xz", "--decompress", "--stdout", file).toString("utf8");
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const bare = (relation: string): string => relation.trim().split(/[\s(:]/)[0] ?? "";

function names(list: string | undefined): string[] {
  return (list ?? "").split(/[,|]/).map(bare).filter(Boolean);
}

function parse(stanza: string): Package {
  const fields = new Map<string, string>();
  for (const line of stanza.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0 && !line.startsWith(" ")) fields.set(line.slice(0, at), line.slice(at + 2));
  }
  const get = (name: string): string => fields.get(name) ?? "";
  const needs = [get("Pre-Depends"), get("Depends")].filter(Boolean).join(",").split(",");
  return {
    name: get("Package"),
    version: get("Version"),
    priority: get("Priority"),
    section: get("Section"),
    installedKiB: Number(get("Installed-Size")) || 0,
    packedKiB: Number(get("Size")) / 1024,
    needs: needs
      .map((group) => group.split("|").map(bare).filter(Boolean))
      .filter((g) => g.length > 0),
    mentions: ["Depends", "Recommends", "Suggests"].flatMap((each) => names(fields.get(each))),
    provides: names(fields.get("Provides")),
  };
}

/** The newest version of each package of an index. */
function packagesOf(text: string): Map<string, Package> {
  const found = new Map<string, Package>();
  for (const each of text
    .split("\n\n")
    .filter((stanza) => stanza.trim() !== "")
    .map(parse)) {
    const known = found.get(each.name);
    if (known === undefined || compareDebianVersions(known.version, each.version) < 0) {
      found.set(each.name, each);
    }
  }
  return found;
}

class Archive {
  readonly packages: Map<string, Package>;
  readonly #providers = new Map<string, string>();

  constructor(packages: Map<string, Package>) {
    this.packages = packages;
    for (const { name, provides } of packages.values()) {
      for (const each of provides) if (!this.#providers.has(each)) this.#providers.set(each, name);
    }
  }

  /** The package that meets a need: the first alternative that exists. */
  #meets(alternatives: readonly string[], taken: ReadonlySet<string>): string | undefined {
    const real = alternatives.map((each) =>
      this.packages.has(each) ? each : this.#providers.get(each),
    );
    const there = real.filter((each) => each !== undefined);
    return there.find((each) => taken.has(each)) ?? there[0];
  }

  /** The packages with all that they depend on, without what is held. */
  closure(names: readonly string[], held: ReadonlySet<string> = new Set()): Package[] {
    const taken = new Set(held);
    const found: Package[] = [];
    const open = [...names];
    for (let name = open.pop(); name !== undefined; name = open.pop()) {
      const each = this.packages.get(name);
      if (taken.has(name) || each === undefined) continue;
      taken.add(name);
      found.push(each);
      for (const need of each.needs)
        open.push(...[this.#meets(need, taken)].filter((n) => n !== undefined));
    }
    return found;
  }
}

/** `[name, version, installed KiB, packed KiB, packages, security version or "", updated packages]`. */
type Line = [string, string, number, number, number, string, number];

function lineOf(name: string, closure: readonly Package[], security: Map<string, Package>): Line {
  const sum = (of: (each: Package) => number): number =>
    Math.round(closure.reduce((total, each) => total + of(each), 0));
  const newer = closure.filter(({ name, version }) => {
    const other = security.get(name);
    return other !== undefined && compareDebianVersions(version, other.version) < 0;
  });
  const own = closure.find((each) => each.name === name);
  const update = newer.find((each) => each.name === name);
  const version = own?.version ?? "12";
  const next = update === undefined ? "" : (security.get(name)?.version ?? "");
  return [
    name,
    version,
    sum((p) => p.installedKiB),
    sum((p) => p.packedKiB),
    closure.length,
    next,
    newer.length,
  ];
}

/** How many packages mention each. */
function mentionsOf(packages: Map<string, Package>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { mentions } of packages.values()) {
    for (const name of new Set(mentions)) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

function programsOf(
  archive: Archive,
  os: ReadonlySet<string>,
  security: Map<string, Package>,
): Line[] {
  const mentions = mentionsOf(archive.packages);
  const count = (name: string): number => mentions.get(name) ?? 0;
  return [...archive.packages.values()]
    .filter(({ name, section }) => SECTIONS.has(section) && !os.has(name))
    .filter(
      ({ name }) =>
        !/^(lib|python3?-|ruby-|golang-|node-|php-|fonts-)|-(dev|doc|data|common|dbg)$/.test(name),
    )
    .toSorted((a, b) => count(b.name) - count(a.name) || (a.name < b.name ? -1 : 1))
    .slice(0, PROGRAMS)
    .map(({ name }) => lineOf(name, archive.closure([name], os), security));
}

function kernelsOf(release: Archive, security: Map<string, Package>): Line[] {
  const own = (list: Map<string, Package>): Package[] =>
    [...list.values()].filter(({ name }) => /^linux-image-[\d.]+-\d+-(cloud-)?amd64$/.test(name));
  const each = new Map([...own(release.packages), ...own(security)].map((one) => [one.name, one]));
  return [...each.values()]
    .toSorted((a, b) => compareDebianVersions(a.version, b.version) || (a.name < b.name ? -1 : 1))
    .map((each) => lineOf(each.name, [each], new Map()));
}

function osOf(archive: Archive, security: Map<string, Package>): Line[] {
  const of = (priorities: readonly string[]): Package[] =>
    archive.closure(
      [...archive.packages.values()]
        .filter((p) => priorities.includes(p.priority))
        .map((p) => p.name),
    );
  return [
    lineOf("debian-12-minimal", of(["required"]), security),
    lineOf("debian-12-usual", of(["required", "important"]), security),
    lineOf("debian-12-standard", of(["required", "important", "standard"]), security),
  ];
}

const release = new Archive(packagesOf(index(RELEASE)));
const security = packagesOf(index(SECURITY));
const minimal = new Set(
  release
    .closure(
      [...release.packages.values()].filter((p) => p.priority === "required").map((p) => p.name),
    )
    .map(({ name }) => name),
);
const catalogue = {
  format: "tessera-catalogue/1",
  source: "Debian 12 (bookworm), main, amd64, and its security suite",
  kernels: kernelsOf(release, security),
  systems: osOf(release, security),
  programs: programsOf(release, minimal, security),
};
writeFileSync(DATA, `${JSON.stringify(catalogue)}\n`);
process.stdout.write(
  `${catalogue.kernels.length} kernels, ${catalogue.systems.length} operating systems, ${catalogue.programs.length} programs, ${readFileSync(DATA).length} bytes\n`,
);

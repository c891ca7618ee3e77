/**
 * Components as Debian has them: sizes, how well they pack, and how often they changed. The data
 * are made by `bench/catalogue.ts`; what popularity means is said there.
 */
import type { CatalogueComponent } from "./contract.ts";
import data from "./data/debian-12.json" with { type: "json" };

/** `[name, version, installed KiB, packed KiB, packages, security version or "", updated packages]`. */
type Line = readonly (string | number)[];

interface CatalogueData {
  readonly kernels: readonly Line[];
  readonly systems: readonly Line[];
  readonly programs: readonly Line[];
}

const DATA: CatalogueData = data;

const text = (line: Line, index: number): string => String(line[index] ?? "");
const number = (line: Line, index: number): number => Number(line[index] ?? 0);

function componentOf(line: Line, kind: CatalogueComponent["kind"]): CatalogueComponent {
  const sizeBytes = Math.max(1, number(line, 2)) * 1024;
  const ratio = Math.min(1, number(line, 3) / Math.max(1, number(line, 2)));
  return { name: text(line, 0), kind, sizeBytes, ratio };
}

/** The last kernel of each flavour: the earlier ones are its versions, not other families. */
function kernels(): CatalogueComponent[] {
  const flavours = new Map<string, Line>();
  for (const line of DATA.kernels) {
    flavours.set(text(line, 0).replace(/-[\d.]+-\d+/, ""), line);
  }
  return [...flavours].map(([name, line]) => ({ ...componentOf(line, "kernel"), name }));
}

/**
 * Kernels, operating systems and the `programs` most popular programs of Debian 12 with their
 * dependencies, most popular first within each kind.
 */
export function debianComponents(programs: number = DATA.programs.length): CatalogueComponent[] {
  return [
    ...kernels(),
    ...DATA.systems.map((line) => componentOf(line, "os")),
    ...DATA.programs.slice(0, programs).map((line) => componentOf(line, "program")),
  ];
}

/** How the catalogue changed while its release was stable: for scenarios that release versions. */
export interface ReleaseHistory {
  /** Kernels that the archive still holds, oldest first, by flavour. */
  readonly kernelVersions: Readonly<Record<string, readonly string[]>>;
  /** Part of the programs whose own package, or any of whose packages, was updated for security. */
  readonly programsUpdated: number;
  readonly closuresUpdated: number;
}

function share(holds: (line: Line) => boolean): number {
  return DATA.programs.filter(holds).length / DATA.programs.length;
}

export function debianHistory(): ReleaseHistory {
  const kernelVersions: Record<string, string[]> = {};
  for (const line of DATA.kernels) {
    const flavour = text(line, 0).replace(/-[\d.]+-\d+/, "");
    (kernelVersions[flavour] ??= []).push(text(line, 1));
  }
  return {
    kernelVersions,
    programsUpdated: share((line) => text(line, 5) !== ""),
    closuresUpdated: share((line) => number(line, 6) > 0),
  };
}

/**
 * The example components for tests that need a real system: built once per work tree into
 * `build/test/repository` from `examples/components`, then reused. Building needs the Debian
 * archive and mmdebstrap, about half a minute per component.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Digest } from "#core";
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";

export type ComponentName = "kernel-cloud" | "debian-12" | "nginx" | "redis" | "mariadb";

export interface TestComponents {
  readonly store: ComponentStore;
  readonly directory: string;
  /** Component ids by recipe name, of the recipes that were asked for. */
  readonly ids: Readonly<Record<string, Digest>>;
}

const ROOT = resolve(import.meta.dirname, "../../build/test");
const BUILDER = resolve(import.meta.dirname, "build-components.ts");
const USUAL: readonly ComponentName[] = ["kernel-cloud", "debian-12", "nginx", "redis"];

/** One process builds at a time; the others wait and find the work done. */
export async function testComponents(
  names: readonly ComponentName[] = USUAL,
): Promise<TestComponents> {
  mkdirSync(ROOT, { recursive: true });
  const lock = join(ROOT, "build.lock");
  const { status, stdout, stderr } = spawnSync(
    "flock",
    [lock, process.execPath, BUILDER, ROOT, ...names],
    { encoding: "utf8", maxBuffer: 2 ** 24 },
  );
  if (status !== 0) throw new Error(`the test components cannot be built: ${stderr}`);
  const directory = join(ROOT, "repository");
  const store = await openRepository(realWorld(), directory);
  return { store, directory, ids: JSON.parse(stdout) as Record<string, Digest> };
}

/** Layers that can be components of their own, and those that cannot. Pure. */
import type { Digest } from "#core";
import { canonicalTree, mergeTrees, type ContainerLayer, type Tree } from "#image";

/** Programs that an appliance may have. */
const GROUPS_MAX = 65;
/** What the initramfs mounts onto. */
const MOUNT_POINTS = ["dev", "proc", "run", "sys"];

export interface NumberedLayer {
  readonly layer: ContainerLayer;
  readonly diffId: Digest;
}

/** Layers that become one component, lowest first. */
export interface LayerGroup {
  readonly diffIds: readonly Digest[];
  readonly tree: Tree;
}

/**
 * A layer that removes something of lower ones is joined with all down to the lowest that has it: a
 * component has no whiteouts, as it may stand on another than the one below it here. Empty layers
 * are left out.
 */
export function groupLayers(layers: readonly NumberedLayer[]): LayerGroup[] {
  let groups: NumberedLayer[][] = [];
  for (const one of layers) {
    if (groups.length > 0 && one.layer.tree.entries.length <= 1) continue;
    const lowest = groups.findIndex((group) =>
      group.some(({ layer }) => isTouched(layer.tree, one.layer)),
    );
    const from = lowest < 0 ? groups.length : lowest;
    groups = [...groups.slice(0, from), [...groups.slice(from).flat(), one]];
  }
  return bounded(groups).map(joined);
}

/** One component of all. */
export function wholeImage(layers: readonly NumberedLayer[]): LayerGroup[] {
  return [joined(layers)];
}

function isTouched(tree: Tree, { removed, emptied }: ContainerLayer): boolean {
  if (removed.some((path) => tree.get(path) !== undefined)) return true;
  return emptied.some((directory) => {
    const prefix = directory === "" ? "" : `${directory}/`;
    return tree.entries.some(({ path }) => path !== "" && path.startsWith(prefix));
  });
}

/** The uppermost, which change most often, stay apart. */
function bounded(groups: readonly NumberedLayer[][]): NumberedLayer[][] {
  const excess = Math.max(0, groups.length - GROUPS_MAX);
  return excess === 0
    ? [...groups]
    : [groups.slice(0, excess + 1).flat(), ...groups.slice(excess + 1)];
}

function joined(group: readonly NumberedLayer[]): LayerGroup {
  return {
    diffIds: group.map(({ diffId }) => diffId),
    tree: mergeTrees(group.map(({ layer }) => layer.tree)),
  };
}

/** With the directories that the initramfs mounts onto, which an image may lack. */
export function withMountPoints(tree: Tree): Tree {
  const missing = MOUNT_POINTS.filter((path) => tree.get(path) === undefined);
  const common = { mode: 0o755, uid: 0, gid: 0, mtime_s: 0, xattrs: new Map() };
  const added = missing.map((path) => ({ ...common, path, type: "directory" as const }));
  return added.length === 0 ? tree : canonicalTree([...tree.entries, ...added]);
}

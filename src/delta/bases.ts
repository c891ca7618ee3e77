import { compareDebianVersions, type ComponentReference } from "#core";

/**
 * The held components that are most likely to have references for `target`, the likeliest first:
 * of the same kind and name, the nearest version first; then of the same kind; then, because a
 * program is often part of another system image, the operating systems; then the rest. Ties go to
 * the nearest size, then to the lower id.
 *
 * @param max most that are returned
 */
export function nearestBases(
  target: ComponentReference,
  held: readonly ComponentReference[],
  max: number,
): ComponentReference[] {
  const others = held.filter((component) => component.id !== target.id);
  const namesakes = sortNamesakes(
    target,
    others.filter((component) => classOf(target, component) === 0),
  );
  const rest = others
    .filter((component) => classOf(target, component) > 0)
    .toSorted((a, b) => classOf(target, a) - classOf(target, b) || bySizeAndId(target, a, b));
  return [...namesakes, ...rest].slice(0, Math.max(0, max));
}

function classOf(target: ComponentReference, component: ComponentReference): number {
  if (component.kind === target.kind) return component.name === target.name ? 0 : 1;
  return component.kind === "os" ? 2 : 3;
}

function bySizeAndId(
  target: ComponentReference,
  a: ComponentReference,
  b: ComponentReference,
): number {
  const distance = (component: ComponentReference): number =>
    Math.abs(component.sizeBytes - target.sizeBytes);
  return distance(a) - distance(b) || Number(a.id > b.id) - Number(a.id < b.id);
}

/** By how many versions lie between; of two as near the newer one first. */
function sortNamesakes(
  target: ComponentReference,
  namesakes: readonly ComponentReference[],
): ComponentReference[] {
  const newestFirst = namesakes.toSorted(
    (a, b) => compareDebianVersions(b.version, a.version) || bySizeAndId(target, a, b),
  );
  const rank = (component: ComponentReference): number =>
    compareDebianVersions(component.version, target.version);
  const equal = newestFirst.filter((component) => rank(component) === 0);
  const newer = newestFirst.filter((component) => rank(component) > 0).reverse();
  const older = newestFirst.filter((component) => rank(component) < 0);
  const near: ComponentReference[] = [];
  for (let step = 0; step < Math.max(newer.length, older.length); step += 1) {
    near.push(...newer.slice(step, step + 1), ...older.slice(step, step + 1));
  }
  return [...equal, ...near];
}

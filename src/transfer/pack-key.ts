import { createHash } from "node:crypto";
import type { PackKey, PackPlan, SolidParameters } from "#delta";
import type { HeldRecipe } from "#repository";

/** Changes whenever equal inputs may lead to other bytes. */
const FORMAT = "tessera pack 3\n";

function range({ digests }: HeldRecipe, at: { content: number; offset: number; length: number }) {
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64BE(BigInt(at.offset), 0);
  numbers.writeBigUInt64BE(BigInt(at.length), 8);
  return [digests[at.content] ?? Buffer.alloc(32), numbers];
}

/**
 * The identity of an encoded pack: what it is made of, by digests, and how. Contents that occur in
 * several components lead to one key.
 */
export function packKey(
  plan: PackPlan,
  parameters: SolidParameters,
  component: HeldRecipe,
  bases: readonly HeldRecipe[],
): PackKey {
  const { references, segments } = plan;
  const hash = createHash("sha256").update(FORMAT);
  hash.update(JSON.stringify([Object.entries(parameters), references.length]));
  for (const reference of references) {
    const base = bases[reference.base];
    if (base !== undefined) for (const part of range(base, reference)) hash.update(part);
  }
  for (const segment of segments) for (const part of range(component, segment)) hash.update(part);
  return `sha256:${hash.digest("hex")}`;
}

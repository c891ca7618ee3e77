import type { Component } from "#core";
import type { Parts } from "../handlers/parts.ts";
import { wordsOf } from "./gather.ts";

/**
 * Sends what was made here to the upstream, where the configuration wants that. What fails is said and
 * harms nothing: `component push` or a second `component add` sends it later.
 */
export async function pushMade(
  { upstream, world }: Pick<Parts, "upstream" | "world">,
  components: readonly Component[],
  signal: AbortSignal,
): Promise<{ readonly remarks?: string[] }> {
  if (upstream?.pushes !== true) return {};
  const remarks: string[] = [];
  for (const component of components) {
    try {
      await upstream.push(component, { signal });
    } catch (error) {
      const { name } = component.description;
      const remark = `${name} is not sent to ${upstream.name}: ${wordsOf(error)}`;
      world.log.log("warn", "the upstream takes no component", { remark });
      remarks.push(remark);
    }
  }
  return remarks.length === 0 ? {} : { remarks };
}

/** The placement policy of a run by its name. */
import { rankClouds } from "#placement";
import type { PlacementPolicy, PolicySpec } from "./contract.ts";
import { offerOf, requestOf } from "./offers.ts";
import type { Parts } from "./parts.ts";
import { PLACEMENTS } from "./placements.ts";

/** What `migrate` without `--to` does, in place of a policy for rounds. */
const AGENT = "agent";

export const PLACEMENT_NAMES: readonly string[] = [...Object.keys(PLACEMENTS), AGENT];

/** @param policy its placement is one of {@link PLACEMENT_NAMES} */
export function placementOf(policy: PolicySpec, parts: Parts): PlacementPolicy {
  const make = PLACEMENTS[policy.placement as keyof typeof PLACEMENTS];
  return make === undefined ? agentPlacement(parts) : make(policy);
}

/** The agent's ranking of the offers that it sees; nothing moves that nobody asked for. */
function agentPlacement(parts: Parts): PlacementPolicy {
  return {
    start: () => undefined,
    choose: (_, machine, candidates) => {
      const request = requestOf(parts, machine);
      if (request === undefined) return undefined;
      const offers = candidates.map((cloud) => offerOf(parts, machine, cloud));
      const [best] = rankClouds(request, offers);
      if (best === undefined || !best.fits) return undefined;
      return candidates.find((cloud) => parts.clouds.names[cloud] === best.cloud);
    },
    decide: (_, memory) => ({ decisions: [], memory }),
  };
}

/** How many bytes a component or a user data block takes on the wire, by the transfer policy. */
import { ENCODING_OPTIONS } from "#delta";
import type { ContentShares } from "#core";
import type { Components } from "./components.ts";
import type { Scenario, TransferPolicy } from "./contract.ts";
import type { Population } from "./population.ts";
import type { Repositories } from "./repositories.ts";

/** What patches leave of patched contents: the delta room's own figure for the usual level. */
const PATCHED_RATIO =
  ENCODING_OPTIONS.find(({ encoding }) => encoding.kind === "solid" && encoding.level === 9)
    ?.patchedRatio ?? 1;

export interface ComponentCost {
  readonly bytes: number;
  readonly contents: ContentShares;
}

export class Costs {
  readonly #scenario: Scenario;
  readonly #components: Components;
  readonly #repositories: Repositories;
  readonly #population: Population;
  readonly #delta: boolean;

  constructor(
    scenario: Scenario,
    transfer: TransferPolicy,
    parts: { components: Components; repositories: Repositories; population: Population },
  ) {
    this.#scenario = scenario;
    this.#components = parts.components;
    this.#repositories = parts.repositories;
    this.#population = parts.population;
    this.#delta = transfer !== "monolithic" && transfer !== "cic";
  }

  /** Of a component that `to` does not hold. */
  component(component: number, from: number, to: number): ComponentCost {
    const size = this.#components.sizes[component] as number;
    const ratio = this.#components.ratios[component] as number;
    const base = this.#delta ? this.#nearestVersion(component, to) : -1;
    if (base < 0) {
      const contents = { heldBytes: 0, patchedBytes: 0, missingBytes: size };
      return { bytes: Math.ceil(size * ratio), contents };
    }
    const { held, patched } = this.#scenario.catalogue.similarity;
    const steps = Math.abs(component - base);
    const heldBytes = Math.floor(size * held ** steps);
    // Only what both sides hold serves as a reference for patches.
    const both = this.#repositories.holds(from, base);
    const patchedShare = both && held < 1 ? Math.min(1, patched / (1 - held)) : 0;
    const patchedBytes = Math.floor((size - heldBytes) * patchedShare);
    const missingBytes = size - heldBytes - patchedBytes;
    const bytes = Math.ceil(missingBytes * ratio + patchedBytes * PATCHED_RATIO);
    return { bytes, contents: { heldBytes, patchedBytes, missingBytes } };
  }

  /** The version of the same family that is held and the fewest releases away; -1 where none is. */
  #nearestVersion(component: number, cloud: number): number {
    const family = this.#components.familyOf[component] as number;
    const first = this.#components.firsts[family] as number;
    const end = this.#components.ends[family] as number;
    for (let distance = 1; distance < end - first; distance += 1) {
      for (const other of [component - distance, component + distance]) {
        if (other >= first && other < end && this.#repositories.holds(cloud, other)) return other;
      }
    }
    return -1;
  }

  /** Raw bytes of user data that move, and whether the destination has an earlier copy. */
  userData(machine: number, to: number, now_s: number): { rawBytes: number; lineage: boolean } {
    const all = this.#population.userDataBytes[machine] as number;
    if (this.#population.cloudBefore[machine] !== to) return { rawBytes: all, lineage: false };
    const away_s = now_s - (this.#population.left_s[machine] as number);
    const written = Math.ceil(away_s * this.#scenario.machines.writes_Bps);
    return { rawBytes: Math.min(all, written), lineage: true };
  }
}

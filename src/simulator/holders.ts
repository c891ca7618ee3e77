/** Which clouds got a component last: whom a destination asks besides the source. */
import type { Clouds } from "./clouds.ts";
import type { Repositories } from "./repositories.ts";

/** Clouds remembered for each component. */
const REMEMBERED = 8;

export class Holders {
  readonly #clouds: Clouds;
  readonly #repositories: Repositories;
  readonly #last: Int32Array;
  readonly #next: Uint8Array;

  constructor(clouds: Clouds, repositories: Repositories, components: number) {
    this.#clouds = clouds;
    this.#repositories = repositories;
    this.#last = new Int32Array(components * REMEMBERED).fill(-1);
    this.#next = new Uint8Array(components);
  }

  add(component: number, cloud: number): void {
    const next = this.#next[component] as number;
    this.#last[component * REMEMBERED + next] = cloud;
    this.#next[component] = (next + 1) % REMEMBERED;
  }

  /** Those that answer and still hold it, without `to`, each once. */
  of(component: number, to: number): number[] {
    const known: number[] = [];
    for (let at = component * REMEMBERED; at < (component + 1) * REMEMBERED; at += 1) {
      const cloud = this.#last[at] as number;
      if (cloud < 0 || cloud === to || this.#clouds.up[cloud] === 0) continue;
      if (known.includes(cloud) || !this.#repositories.holds(cloud, component)) continue;
      known.push(cloud);
    }
    return known;
  }
}

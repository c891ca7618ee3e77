import type { World } from "#core";
import type { Hypervisor } from "#hypervisor";
import type { ComponentStore } from "#repository";
import type { Layout } from "./layout.ts";

export interface MachinesOptions {
  readonly world: World;
  readonly layout: Layout;
  readonly store: ComponentStore;
  readonly hypervisor: Hypervisor;
  /** Where user data blocks of new machines lie; absent: in the machines' directories. */
  readonly sharedDirectory?: string;
  /** How long a guest may take to shut down before it is forced. */
  readonly stopTimeout_ms: number;
  /** How long a guest may take to say that it is ready. */
  readonly bootTimeout_ms: number;
  changed(): void;
}

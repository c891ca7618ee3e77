import type { Handlers } from "#api";
import { adviceHandlers } from "./advice.ts";
import { componentHandlers } from "./components.ts";
import { federationHandlers } from "./federation.ts";
import { fleetHandlers } from "./fleet.ts";
import { machineHandlers } from "./machines.ts";
import { migrationHandlers } from "./migrations.ts";
import type { Parts } from "./parts.ts";
import { registryHandlers } from "./registries.ts";
import { signatureHandlers } from "./signatures.ts";

/** What the agent does for each operation of its API. */
export function createHandlers(parts: Parts): Handlers {
  return {
    ...federationHandlers(parts),
    ...componentHandlers(parts),
    ...registryHandlers(parts),
    ...signatureHandlers(parts),
    ...machineHandlers(parts),
    ...migrationHandlers(parts),
    ...adviceHandlers(parts),
    ...fleetHandlers(parts),
  };
}

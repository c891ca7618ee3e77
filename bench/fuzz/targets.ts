import type { FuzzTarget } from "./target.ts";
import { AGENT_TARGETS } from "./targets/agent.ts";
import { CLOUD_INIT_TARGETS } from "./targets/cloud-init.ts";
import { DELTA_TARGETS } from "./targets/delta.ts";
import { IMAGE_TARGETS } from "./targets/image.ts";
import { IMPORT_TARGETS } from "./targets/import.ts";
import { MEMORY_TARGETS } from "./targets/memory.ts";
import { NBD_TARGETS } from "./targets/nbd.ts";
import { REPOSITORY_TARGETS } from "./targets/repository.ts";
import { TRANSFER_TARGETS } from "./targets/transfer.ts";
import { USERDATA_TARGETS } from "./targets/userdata.ts";

export const TARGETS: readonly FuzzTarget[] = [
  ...IMAGE_TARGETS,
  ...TRANSFER_TARGETS,
  ...DELTA_TARGETS,
  ...NBD_TARGETS,
  ...MEMORY_TARGETS,
  ...REPOSITORY_TARGETS,
  ...USERDATA_TARGETS,
  ...AGENT_TARGETS,
  ...IMPORT_TARGETS,
  ...CLOUD_INIT_TARGETS,
];

import type { World } from "#core";
import type { Blobs } from "./blobs.ts";
import type { Catalogue } from "./catalogue.ts";
import type { Collector } from "./collect.ts";
import type { PackCache } from "./contract.ts";
import type { FileIndex } from "./file-index.ts";
import type { Layout } from "./layout.ts";
import type { Leases } from "./leases.ts";
import type { Locks } from "./locks.ts";
import type { Pins } from "./pins.ts";
import type { SignatureIndex } from "./signature-index.ts";

/** What a store is made of; one set per opened repository. */
export interface Parts {
  readonly world: World;
  readonly layout: Layout;
  readonly blobs: Blobs;
  readonly locks: Locks;
  readonly leases: Leases;
  readonly pins: Pins;
  readonly catalogue: Catalogue;
  readonly collector: Collector;
  readonly fileIndex: FileIndex;
  readonly packs: PackCache;
  readonly signatures: SignatureIndex;
  /** Of the boot that this process lives in. */
  readonly bootId: string;
}

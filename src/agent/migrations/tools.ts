import type { Digest, DiskFormat } from "#core";
import type { AgentKey, FederationTransport, PeerCard } from "#federation";
import type { Hypervisor } from "#hypervisor";
import type { ComponentStore } from "#repository";
import type { DataEndpoint, DataIdentity, DataServer } from "#transfer";
import type { Layout } from "../layout.ts";
import type { Machines } from "../machines.ts";
import type { Signers } from "../signers.ts";
import type { Upstream } from "../upstream/upstream.ts";
import type { CourseTools } from "./course.ts";
import type { HelpPolicy } from "../help/help-desk.ts";
import type { RateCache } from "../help/rates.ts";
import type { StreamReport } from "./progress.ts";
import type { RatioCache } from "./ratios.ts";

/** What the two roles need of their cloud. */
export interface MigrationTools extends CourseTools {
  readonly cloud: string;
  readonly layout: Layout;
  readonly machines: Machines;
  readonly hypervisor: Hypervisor;
  readonly store: ComponentStore;
  /** Where user data blocks lie that other clouds reach too. */
  readonly sharedDirectory?: string;
  readonly transport: FederationTransport;
  readonly key: AgentKey;
  readonly dataServer: DataServer;
  readonly dataIdentity: DataIdentity;
  endpoint(): DataEndpoint;
  peer(cloud: string): PeerCard | undefined;
  progress(migration: string, progress: StreamReport): void;
  /** Tells the board which blobs a component has. */
  own(migration: string, component: Digest, blobs: readonly Digest[]): void;
  readonly ratios: RatioCache;
  readonly rates: RateCache;
  readonly help: HelpPolicy;
  readonly signers: Signers;
  /** A registry that holds components besides the members. */
  readonly upstream?: Upstream;
  /** Of user data blocks that arrive and for which none was asked. */
  readonly diskFormat: DiskFormat;
  /** Most bytes of earlier copies of user data that are kept; 0 for none. */
  readonly lineageBytesMax: number;
  /** Processors that nothing else uses at the moment: above 0, may be a fraction. */
  freeCores(): number;
}

import type { AgentKey, FederationTransport, PeerCard } from "#federation";
import type { ComponentStore } from "#repository";
import type { DataEndpoint, DataIdentity, DataServer, TransferProgress } from "#transfer";
import type { Layout } from "../layout.ts";
import type { Machines } from "../machines.ts";
import type { CourseTools } from "./course.ts";

/** What the two roles need of their cloud. */
export interface MigrationTools extends CourseTools {
  readonly cloud: string;
  readonly layout: Layout;
  readonly machines: Machines;
  readonly store: ComponentStore;
  readonly transport: FederationTransport;
  readonly key: AgentKey;
  readonly dataServer: DataServer;
  readonly dataIdentity: DataIdentity;
  endpoint(): DataEndpoint;
  peer(cloud: string): PeerCard | undefined;
  progress(migration: string, progress: TransferProgress): void;
}

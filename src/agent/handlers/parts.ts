import type { Offer, World } from "#core";
import type { AgentKey, FederationTransport, PeerCard } from "#federation";
import type { ComponentStore } from "#repository";
import type { DataServer } from "#transfer";
import type { Appliances } from "../appliances.ts";
import type { Config } from "../config.ts";
import type { Journal } from "../journal.ts";
import type { Layout } from "../layout.ts";
import type { LoadWatch } from "../loads.ts";
import type { Machines } from "../machines.ts";
import type { Migrations } from "../migrations/migrations.ts";
import type { ProgressBoard } from "../migrations/progress.ts";
import type { Peers } from "../peers.ts";
import type { Selector } from "../selection.ts";
import type { Signers } from "../signers.ts";
import type { Upstream } from "../upstream/upstream.ts";

/** The running agent's rooms, as its API handlers use them. */
export interface Parts {
  readonly world: World;
  readonly config: Config;
  readonly layout: Layout;
  readonly store: ComponentStore;
  readonly appliances: Appliances;
  readonly machines: Machines;
  readonly migrations: Migrations;
  readonly signers: Signers;
  readonly upstream?: Upstream;
  readonly selector: Selector;
  readonly journal: Journal;
  readonly board: ProgressBoard;
  readonly loads: Pick<LoadWatch, "here" | "guest" | "other">;
  readonly transport: FederationTransport;
  readonly peers: Peers;
  readonly key: AgentKey;
  readonly dataServer: DataServer;
  readonly accelerator: string;
  readonly started_ms: number;
  readonly version: string;
  card(): PeerCard;
  fingerprint(card: PeerCard): string;
  transportState(): "online" | "connecting" | "offline";
  offer(): Promise<Offer>;
  /** Announces what changed. */
  offerChanged(): Promise<void>;
  shutdown(): void;
}

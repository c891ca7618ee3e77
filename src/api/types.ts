/** Types of what the API says beside core's words. */
import type * as z from "zod";
import type * as view from "./views.ts";

export type AgentInfo = z.output<typeof view.agentInfo>;
export type PeerStatus = z.output<typeof view.peerStatus>;
export type CloudStatus = z.output<typeof view.cloudStatus>;
export type FileText = z.output<typeof view.fileText>;
export type LockedRecipe = z.output<typeof view.lockedRecipe>;
export type ApplianceCheck = z.output<typeof view.applianceCheck>;
export type Choice = z.output<typeof view.choice>;
export type FleetPlan = z.output<typeof view.fleetPlan>;
export type StreamProgress = z.output<typeof view.streamProgress>;
export type MigrationProgress = z.output<typeof view.migrationProgress>;
export type MigrationSummary = z.output<typeof view.migrationSummary>;
export type MigrationStatus = z.output<typeof view.migrationStatus>;

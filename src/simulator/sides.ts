/** The real tables of cold and of hot migrations, as a course steps through them. */
import type { MigrationMode } from "#core";
import {
  destinationEffects,
  eventFromDestination,
  eventFromSource,
  hotDestinationEffects,
  hotEventFromDestination,
  hotEventFromSource,
  hotSourceEffects,
  sourceEffects,
  stepDestination,
  stepHotDestination,
  stepHotSource,
  stepSource,
  type DestinationEffect,
  type DestinationEvent,
  type DestinationPhase,
  type HotDestinationEffect,
  type HotDestinationEvent,
  type HotDestinationPhase,
  type HotSourceEffect,
  type HotSourceEvent,
  type HotSourcePhase,
  type SourceEffect,
  type SourceEvent,
  type SourcePhase,
} from "#migration";

export type SourceSide = SourcePhase | HotSourcePhase;
export type DestinationSide = DestinationPhase | HotDestinationPhase;
export type SourceHappening = SourceEvent | HotSourceEvent;
export type DestinationHappening = DestinationEvent | HotDestinationEvent;
export type SourceWork = SourceEffect | HotSourceEffect;
export type DestinationWork = DestinationEffect | HotDestinationEffect;

/** A course is of one mode from its beginning, so each table meets its own phases and events only. */
export interface Sides {
  source(phase: SourceSide, event: SourceHappening): Step<SourceSide, SourceWork>;
  destination(
    phase: DestinationSide,
    event: DestinationHappening,
  ): Step<DestinationSide, DestinationWork>;
  sourceEffects(phase: SourceSide): readonly SourceWork[];
  destinationEffects(phase: DestinationSide): readonly DestinationWork[];
  fromSource(phase: SourceSide): DestinationHappening | undefined;
  fromDestination(phase: DestinationSide): SourceHappening;
}

interface Step<Phase, Effect> {
  readonly phase: Phase;
  readonly effects: readonly Effect[];
}

const COLD: Sides = {
  source: stepSource,
  destination: stepDestination,
  sourceEffects: sourceEffects,
  destinationEffects: destinationEffects,
  fromSource: eventFromSource as Sides["fromSource"],
  fromDestination: eventFromDestination as Sides["fromDestination"],
};

const HOT: Sides = {
  source: stepHotSource,
  destination: stepHotDestination,
  sourceEffects: hotSourceEffects,
  destinationEffects: hotDestinationEffects,
  fromSource: hotEventFromSource as Sides["fromSource"],
  fromDestination: hotEventFromDestination as Sides["fromDestination"],
};

export function sidesOf({ plan }: { readonly plan: { readonly mode: MigrationMode } }): Sides {
  return plan.mode === "hot" ? HOT : COLD;
}

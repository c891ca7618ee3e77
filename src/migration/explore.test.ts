import { DESTINATION, destinationEffects, stepDestination } from "./destination.ts";
import { exploreMachines } from "./explore.suite.ts";
import { HOT_DESTINATION, hotDestinationEffects, stepHotDestination } from "./hot-destination.ts";
import { HOT_SOURCE, hotSourceEffects, stepHotSource } from "./hot-source.ts";
import { hotEventFromDestination, hotEventFromSource } from "./hot-status.ts";
import { SOURCE, sourceEffects, stepSource } from "./source.ts";
import { eventFromDestination, eventFromSource } from "./status.ts";

const COLD_SOURCE = {
  phases: Object.keys(SOURCE),
  step: stepSource,
  effects: sourceEffects,
  events: {
    "stop-machine": "stopped",
    "release-machine": "released",
    "roll-back": "rolled-back",
  },
};

const COLD_DESTINATION = {
  phases: Object.keys(DESTINATION).filter((phase) => phase !== "replicating"),
  step: stepDestination,
  effects: destinationEffects,
  events: {
    "fetch-components": "components-held",
    compose: "composed",
    "fetch-user-data": "user-data-held",
    "start-machine": "started",
    "await-ready": "booted",
    "clean-up": "cleaned",
    "stop-machine": "stopped",
  },
};

const COLD = {
  source: COLD_SOURCE,
  destination: COLD_DESTINATION,
  eventFromDestination,
  eventFromSource,
  stops: "stop-machine",
  starts: "start-machine",
  waits: "received",
};

exploreMachines("cold", COLD);

exploreMachines("warm", {
  ...COLD,
  destination: {
    ...COLD_DESTINATION,
    phases: Object.keys(DESTINATION),
    events: { ...COLD_DESTINATION.events, compose: "composed-warm", replicate: "replicated" },
  },
});

exploreMachines("hot", {
  source: {
    phases: Object.keys(HOT_SOURCE),
    step: stepHotSource,
    effects: hotSourceEffects,
    events: { emigrate: "paused", "release-machine": "released", "roll-back": "rolled-back" },
  },
  destination: {
    phases: Object.keys(HOT_DESTINATION),
    step: stepHotDestination,
    effects: hotDestinationEffects,
    events: {
      "fetch-components": "components-held",
      compose: "composed",
      "copy-ahead": "listening",
      arm: "armed",
      "resume-machine": "resumed",
      fill: "whole",
      "clean-up": "cleaned",
      "stop-machine": "stopped",
    },
  },
  eventFromDestination: hotEventFromDestination,
  eventFromSource: hotEventFromSource,
  stops: "emigrate",
  starts: "resume-machine",
  waits: "armed",
});

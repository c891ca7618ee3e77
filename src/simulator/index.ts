/** The simulator: federations of many clouds in discrete events, with the real decisions. */
export type * from "./contract.ts";
export { debianComponents, debianHistory, type ReleaseHistory } from "./catalogue.ts";
export { LINK_PROFILES, linkMatrix, quantile, type LinkMatrix, type LinkProfile } from "./links.ts";
export { PLACEMENTS } from "./placements.ts";
export { renderBars, renderLines, type BarPlot, type Line, type LinePlot } from "./chart.ts";
export { renderReport } from "./report.ts";
export { renderSummary, seriesCsv, summaryOf } from "./summary.ts";
export { parseScenario } from "./scenario.ts";
export { parseSweep, sweepCsv, sweepRuns, type Sweep, type SweepRun } from "./sweep.ts";
export { Run, type RunOptions } from "./run.ts";
export { estimateMemory } from "./memory.ts";
export { EventQueue } from "./event-queue.ts";
export { replayRequests, type Replay } from "./irm.ts";
export { cheHitRatio, unlimitedHitRatio } from "./theory.ts";

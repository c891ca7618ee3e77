/** Program of a thread that makes differences; see difference-threads.ts. */
import { parentPort } from "node:worker_threads";
import { encodeDifference, TableSpace } from "#delta";
import { ownedBuffers, type DifferenceJob, type DifferenceResult } from "./difference-job.ts";

const space = new TableSpace();

parentPort?.on("message", ({ dictionary, raw, quick }: DifferenceJob) => {
  const difference = encodeDifference(dictionary.subarray(1), raw, { space, quick });
  const result: DifferenceResult = { dictionary, raw, difference };
  const moved = [dictionary, raw, ...(difference === undefined ? [] : [difference])];
  parentPort?.postMessage(result, ownedBuffers(moved));
});

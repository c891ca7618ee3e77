/** Program of a thread that makes differences; see difference-threads.ts. */
import { parentPort } from "node:worker_threads";
import { encodeDifference } from "#delta";
import { ownedBuffers, type DifferenceJob, type DifferenceResult } from "./difference-job.ts";

parentPort?.on("message", ({ dictionary, raw }: DifferenceJob) => {
  const difference = encodeDifference(dictionary.subarray(1), raw);
  const result: DifferenceResult = { dictionary, raw, difference };
  const moved = [dictionary, raw, ...(difference === undefined ? [] : [difference])];
  parentPort?.postMessage(result, ownedBuffers(moved));
});

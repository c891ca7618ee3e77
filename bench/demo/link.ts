/**
 * The link between the demo's two clouds, as a program of its own so that it can outlive the demo:
 * one relay in front of each cloud's data port, each throttled, and their byte counts over HTTP.
 * Arguments: RATE, then for each relay LISTEN_PORT:TARGET_PORT, then the port for the counts.
 */
import { createServer } from "node:http";
import { parseRate } from "#core";
import { startRelay } from "../../src/transfer/relay.suite.ts";

const [rateText = "", countsPort = "", ...pairs] = process.argv.slice(2);
const bitsPerSecond = parseRate(rateText);
const relays = await Promise.all(
  pairs.map(async (pair) => {
    const [listen, target] = pair.split(":").map(Number);
    return await startRelay({
      target: { host: "127.0.0.1", port: target ?? 0 },
      listen: { port: listen ?? 0 },
      bitsPerSecond,
    });
  }),
);
createServer((_request, response) => {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(relays.map((relay) => relay.bytes())));
}).listen(Number(countsPort), "127.0.0.1", () => process.stdout.write("ready\n"));

/** A program for the tests: gathers one component from the repository beside it, slowly. */
import { join } from "node:path";
import { parseDigest } from "#core";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { Clouds } from "./gather.suite.ts";
import { gatherComponents } from "./gather.ts";

const [directory = "", id = ""] = process.argv.slice(2);
const clouds = await Clouds.at(directory);
const there = await openRepository(realWorld(), join(directory, "there"));
const wanted = await there.find(parseDigest(id));
if (wanted === undefined) throw new Error("it is not there");
let sentBytes = 0;
const source = clouds.source("there", there, {
  pieceBytes: 2 ** 18,
  piece: async (piece) => {
    sentBytes += piece.bytes.length;
    process.stdout.write(`${sentBytes}\n`);
    await clouds.world.clock.sleep(3);
    return piece;
  },
});
await gatherComponents(clouds.world, clouds.options([wanted], [source]));

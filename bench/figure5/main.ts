/**
 * `make figure5`: the paper's experiment on the real system. Needs root (network namespaces).
 * Options: --rate, --sizes (downloaded MB, by commas).
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { formatRate, parseRate } from "#core";
import { testComponents } from "../../test/support/components.ts";
import { headline, say } from "../demo/screen.ts";
import { removeStale } from "../transfer/link.ts";
import { openScene, SCENE, type Scene } from "./clouds.ts";
import { measure, type Point } from "./experiment.ts";

const APPLIANCES = resolve(import.meta.dirname, "../../examples/appliances");
/** What the machines download after the move, beyond the greatest size. */
const REST_BYTES = 4e6;

async function runAll(scene: Scene, sizes_MB: readonly number[]): Promise<Point[]> {
  for (const name of ["web", "database"]) {
    const fileName = join(APPLIANCES, `${name}.yaml`);
    const text = readFileSync(fileName, "utf8");
    await scene.messina.api.call("appliance.add", { fileName, text });
  }
  const smallest = Math.min(...sizes_MB) * 1e6;
  const points: Point[] = [];
  const go = async (title: string, machine: string, appliance: string, downloadBytes: number) => {
    headline(title);
    const point = await measure(scene, { machine, appliance, downloadBytes });
    say(`composed ${point.whole_s.toFixed(1)} s, monolithic ${point.monolithWhole_s.toFixed(1)} s`);
    points.push(point);
  };
  await go("Worst case: inquadro holds nothing", "worst", "web", smallest);
  await go("Average case: the program is missing", "average", "database", smallest);
  for (const size of sizes_MB) {
    await go(`Best case, ${size} MB downloaded`, `best-${size}`, "web", size * 1e6);
  }
  return points;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rate: { type: "string", default: "8Mbit/s" },
      sizes: { type: "string", default: "10,25,40,55,70" },
    },
  });
  const bitsPerSecond = parseRate(values.rate);
  const sizes_MB = values.sizes.split(",").map(Number);
  removeStale();
  headline(`Figure 5 over a link of ${formatRate(bitsPerSecond)}`);
  const { directory } = await testComponents();
  const scene = await openScene(bitsPerSecond, Math.max(...sizes_MB) * 1e6 + REST_BYTES, directory);
  try {
    const points = await runAll(scene, sizes_MB);
    writeFileSync(
      join(SCENE, "points.json"),
      `${JSON.stringify({ bitsPerSecond, points }, null, 2)}\n`,
    );
  } finally {
    for (const { web } of [scene.messina, scene.inquadro]) web.end();
    scene.link.close();
  }
}

await main();

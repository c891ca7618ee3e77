/**
 * `make figure5`: the paper's experiment on the real system. Needs root (network namespaces).
 * Options: --rate, --sizes (downloaded MB, ascending, by commas). Each point is kept when it is
 * there: a run that was interrupted goes on with those that it lacks, `--fresh` begins anew, and
 * `--draw` makes tables and plots of the points that are kept.
 */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { formatRate, parseRate } from "#core";
import { testComponents } from "../../test/support/components.ts";
import { headline, say } from "../demo/screen.ts";
import { writePage } from "../page.ts";
import { removeStale } from "../transfer/link.ts";
import { openScene, SCENE, type Scene } from "./clouds.ts";
import { Traveller } from "./experiment.ts";
import { writeFigures } from "./figures.ts";
import { keepRun, loadRun, type KeptRun } from "./kept.ts";
import { heldBefore, openLegs, type Leg } from "./legs.ts";

const APPLIANCES = resolve(import.meta.dirname, "../../examples/appliances");
/** What is downloaded after the last move. */
const REST_BYTES = 4e6;
const SIZES_MAX = 100;

const { values } = parseArgs({
  options: {
    rate: { type: "string", default: "8Mbit/s" },
    sizes: { type: "string", default: "10,25,40,55,70" },
    draw: { type: "boolean", default: false },
    fresh: { type: "boolean", default: false },
  },
});

const TITLES: Readonly<Record<Leg["case"], string>> = {
  worst: "Worst case: inquadro holds nothing",
  best: "Best case: all components are held",
  average: "Average case: inquadro misses the program",
};

function sizesOf(text: string): number[] {
  const sizes = text.split(",").map((size) => Math.round(Number(size) * 1e6));
  const ascending = sizes.every((size, index) => size > (sizes[index - 1] ?? 0));
  if (ascending && sizes.length <= SIZES_MAX) return sizes;
  throw new Error(`--sizes ${text}: at most ${SIZES_MAX} numbers of MB, ascending, by commas`);
}

async function addAppliances({ messina }: Scene): Promise<void> {
  for (const name of ["web", "database"]) {
    const fileName = join(APPLIANCES, `${name}.yaml`);
    const text = readFileSync(fileName, "utf8");
    await messina.api.call("appliance.add", { fileName, text });
  }
}

/**
 * The legs of one machine; each point is kept before the next leg begins, and all of them are
 * dropped where the file that the machine has in the end is not the right one.
 */
async function travel(scene: Scene, session: number, legs: readonly Leg[], run: KeptRun) {
  const [first] = legs;
  if (first === undefined) return run;
  const traveller = await Traveller.start(scene, session, first.machine);
  let now = run;
  for (const leg of legs) {
    headline(`${TITLES[leg.case]}, ${leg.downloadBytes / 1e6} MB downloaded`);
    const point = await traveller.go(leg);
    now = { ...now, points: [...now.points, point] };
    keepRun(now);
    say(`composed ${point.whole_s.toFixed(1)} s, monolithic ${point.monolithWhole_s.toFixed(1)} s`);
  }
  if (!(await traveller.arrive())) {
    keepRun(run);
    throw new Error(`the file of ${first.machine} is not what the server sent`);
  }
  now = { ...now, arrived: [...now.arrived, { session, machine: first.machine }] };
  keepRun(now);
  return now;
}

async function measure(run: KeptRun): Promise<void> {
  removeStale();
  const legs = openLegs(run.sizes, run.points);
  const session = 1 + Math.max(0, ...run.points.map(({ taken }) => taken.session));
  headline(`Figure 5 over a link of ${formatRate(run.bitsPerSecond)}`);
  if (session > 1) say(`${run.points.length} points are kept; ${legs.length} are to be taken`);
  const { directory } = await testComponents();
  const scene = await openScene({
    bitsPerSecond: run.bitsPerSecond,
    fileBytes: (run.sizes.at(-1) ?? 0) + REST_BYTES,
    repository: directory,
    held: heldBefore(legs),
  });
  try {
    await addAppliances(scene);
    const of = (machine: Leg["machine"]): Leg[] => legs.filter((leg) => leg.machine === machine);
    const first = await travel(scene, session, of("web"), run);
    await travel(scene, session, of("database"), first);
  } finally {
    for (const { web } of [scene.messina, scene.inquadro]) web.end();
    scene.link.close();
  }
}

/** What is kept of a run with these settings that is not complete; else an empty one. */
function begun(bitsPerSecond: number, sizes: readonly number[]): KeptRun {
  const kept = values.fresh ? undefined : loadRun();
  const same =
    kept?.bitsPerSecond === bitsPerSecond && JSON.stringify(kept.sizes) === JSON.stringify(sizes);
  const goesOn = kept !== undefined && same && openLegs(sizes, kept.points).length > 0;
  return goesOn ? kept : { bitsPerSecond, sizes, points: [], arrived: [] };
}

async function main(): Promise<void> {
  // What runs in the namespaces ends with this process.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => process.exit(1));
  }
  if (!values.draw) await measure(begun(parseRate(values.rate), sizesOf(values.sizes)));
  const run = loadRun();
  if (run === undefined) throw new Error("no points are kept; make figure5 takes them");
  writeFigures(SCENE, run);
  writePage();
}

await main();

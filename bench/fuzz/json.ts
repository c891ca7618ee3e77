/** Changes to JSON that leave it JSON. */
import { NUMBERS, type FuzzRandom } from "./random.ts";

const TEXTS: readonly string[] = [
  "",
  "\0",
  "..",
  "/",
  "/../x",
  "a".repeat(300),
  "sha256:",
  `sha256:${"0".repeat(64)}`,
  `sha256:${"g".repeat(64)}`,
  "\u202e",
  "\ud800",
  "__proto__",
  "constructor",
  "1e999",
  "-1",
];

function leaf(random: FuzzRandom): unknown {
  return random.pick<unknown>([
    null,
    true,
    false,
    random.pick(NUMBERS),
    -random.pick(NUMBERS),
    1e308,
    0.5,
    random.pick(TEXTS),
    [],
    {},
    [null],
    { ["__proto__"]: 1 },
    Array.from({ length: random.below(400) }, () => random.pick(NUMBERS)),
  ]);
}

function changed(random: FuzzRandom, value: unknown): unknown {
  const members = typeof value === "object" && value !== null ? Object.entries(value) : [];
  if (members.length === 0 || random.chance(0.15)) return leaf(random);
  const [key, member] = random.pick(members);
  if (Array.isArray(value)) {
    const list: unknown[] = [...(value as unknown[])];
    const how = random.below(5);
    if (how === 0) list.splice(Number(key), 1);
    else if (how === 1) list.push(...list.slice(0, 50));
    else list[Number(key)] = changed(random, member);
    return list;
  }
  const rest = members.filter(([other]) => other !== key);
  if (random.chance(0.1)) return Object.fromEntries(rest);
  if (random.chance(0.1))
    return Object.fromEntries([...members, [random.pick(TEXTS), leaf(random)]]);
  return Object.fromEntries([...rest, [key, changed(random, member)]]);
}

/** One of the seeds, which are JSON, with one to three changes. */
export function changedJson(random: FuzzRandom, seeds: readonly Buffer[]): Buffer {
  let value: unknown = JSON.parse(random.pick(seeds).toString("utf8"));
  for (let left = 1 + random.below(3); left > 0; left -= 1) value = changed(random, value);
  return Buffer.from(JSON.stringify(value));
}

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { TesseraError } from "#core";
import { failureOf } from "./fixtures.suite.ts";
import { parseAppliance } from "./recipe.ts";

const HEAD = "name: web\nkernel: kernel-cloud\nos: debian-12\n";

function messageOf(text: string): string {
  const { code, fault, message } = failureOf(() => parseAppliance(text, "web.yaml"));
  assert.deepEqual([code, fault], ["compose.appliance-invalid", "misuse"]);
  return message;
}

test("an appliance is read with units and defaults", () => {
  const text = `${HEAD}programs: [nginx, redis@7.0]
resources:
  cpus: 2
  memory: 512M
  data: 1.5G
  ports:
    - { name: http, guest: 80, host: 8080 }
    - { name: redis, guest: 6379 }
serviceLevel:
  downtimeMax: 300ms
  clouds: [a.example]
  maySlowDown: false
`;
  assert.deepEqual(parseAppliance(text, "web.yaml"), {
    name: "web",
    kernel: "kernel-cloud",
    os: "debian-12",
    programs: ["nginx", "redis@7.0"],
    resources: {
      cpus: 2,
      memoryBytes: 512 * 2 ** 20,
      dataBytes: 1.5 * 2 ** 30,
      ports: [
        { name: "http", guest: 80, host: 8080 },
        { name: "redis", guest: 6379 },
      ],
    },
    serviceLevel: {
      downtimeMax_ms: 300,
      clouds: ["a.example"],
      regions: [],
      priority: 50,
      maySlowDown: false,
    },
  });
});

test("the least appliance has every default", () => {
  const { programs, resources, serviceLevel } = parseAppliance(HEAD, "web.yaml");
  assert.deepEqual(programs, []);
  assert.deepEqual(resources, { cpus: 1, memoryBytes: 2 ** 29, dataBytes: 2 ** 30, ports: [] });
  assert.equal("downtimeMax_ms" in serviceLevel, false);
});

test("durations have units", () => {
  for (const [text, milliseconds] of [
    ["2s", 2000],
    ["0.5s", 500],
    ["1min", 60_000],
  ] as const) {
    const recipe = parseAppliance(`${HEAD}serviceLevel: { downtimeMax: ${text} }\n`, "x");
    assert.equal(recipe.serviceLevel.downtimeMax_ms, milliseconds);
  }
});

test("the examples are appliances", () => {
  for (const name of ["web", "database", "web-database"]) {
    const path = resolve(import.meta.dirname, `../../examples/appliances/${name}.yaml`);
    assert.equal(parseAppliance(readFileSync(path, "utf8"), path).name, name);
  }
});

const FAULTS: readonly (readonly [string, string, RegExp])[] = [
  ["a missing field", "name: web\nkernel: k\n", /^web\.yaml:1:1: os: is missing; it must name/],
  [
    "an unknown field",
    `${HEAD}color: red\n`,
    /^web\.yaml:4:1: color: unknown field; allowed here: name, kernel, os, programs, resources, serviceLevel, cloudInit$/,
  ],
  [
    "an unknown field below",
    `${HEAD}resources:\n  cpus: 1\n  ram: 1G\n`,
    /^web\.yaml:6:3: resources\.ram: unknown field; allowed here: cpus, memory, data, ports$/,
  ],
  [
    "a size without sense",
    `${HEAD}resources:\n  memory: 12X\n`,
    /^web\.yaml:5:3: resources\.memory: must be a size such as 512M/,
  ],
  ["too little memory", `${HEAD}resources:\n  memory: 1M\n`, /from 64M to 4T$/],
  ["a size between blocks", `${HEAD}resources:\n  data: 67108865\n`, /multiple of 4K/],
  [
    "cpus out of range",
    `${HEAD}resources: { cpus: 256 }\n`,
    /^web\.yaml:4:14: resources\.cpus: must be a whole number from 1 to 255$/,
  ],
  [
    "a port out of range",
    `${HEAD}resources:\n  ports:\n    - name: http\n      guest: 70000\n`,
    /^web\.yaml:7:7: resources\.ports\[0\]\.guest: must be a whole number from 1 to 65535$/,
  ],
  [
    "a port name twice",
    `${HEAD}resources:\n  ports:\n    - { name: a, guest: 1 }\n    - { name: a, guest: 2 }\n`,
    /^web\.yaml:7:7: resources\.ports\[1\]: port name a is given twice/,
  ],
  [
    "a duration without unit",
    `${HEAD}serviceLevel:\n  downtimeMax: 3\n`,
    /^web\.yaml:5:3: serviceLevel\.downtimeMax: must be a duration such as/,
  ],
  [
    "a program twice",
    `${HEAD}programs: [a, b, a]\n`,
    /^web\.yaml:4:18: programs\[2\]: program a is given twice/,
  ],
  [
    "a list that is none",
    `${HEAD}programs: nginx\n`,
    /^web\.yaml:4:1: programs: must be a list of at most 64 components$/,
  ],
  [
    "a flag that is none",
    `${HEAD}serviceLevel: { maySlowDown: perhaps }\n`,
    /maySlowDown: must be true or false$/,
  ],
  ["a name with a slash", "name: a/b\nkernel: k\nos: o\n", /^web\.yaml:1:1: name: must be a name/],
  ["broken syntax", "name: [web\n", /^web\.yaml:\d+:\d+: \(syntax\): /],
  ["a key twice", "name: a\nname: b\n", /^web\.yaml:2:1: \(syntax\): Map keys must be unique$/],
  [
    "an alias",
    "name: &a web\nkernel: *a\nos: o\n",
    /^web\.yaml:2:9: \*a: YAML aliases are not allowed/,
  ],
  ["nothing", "", /must be a map of these fields/],
  ["a text that is too long", `${HEAD}# ${"x".repeat(70_000)}\n`, /longer than/],
];

for (const [what, text, expected] of FAULTS) {
  test(`${what} is refused at its place`, () => {
    assert.match(messageOf(text), expected);
  });
}

test("the first of several faults is told, and how many more there are", () => {
  const text = `${HEAD}resources:\n  memory: 0\n  cpus: 0\n`;
  assert.match(messageOf(text), /^web\.yaml:5:3: resources\.memory: .* \(and 1 more\)$/);
});

test("any text is an appliance or a located fault", () => {
  fc.assert(
    fc.property(fc.string(), (tail) => {
      try {
        parseAppliance(`${HEAD}${tail}`, "web.yaml");
      } catch (error) {
        assert.ok(error instanceof TesseraError, String(error));
        assert.match(error.message, /^web\.yaml:\d+:\d+: /);
      }
    }),
  );
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { summaryHead, type Appliance, type Digest, type Offer } from "#core";
import { rankClouds, reserve } from "./index.ts";

const id = (letter: string): Digest => `sha256:${letter.repeat(64)}`;
const component = (letter: string, kind: "kernel" | "os", sizeBytes: number) => ({
  id: id(letter),
  kind,
  name: letter,
  version: "1",
  sizeBytes,
  manifest: { digest: id(letter), sizeBytes: 1 },
});

const appliance: Appliance = {
  name: "web",
  digest: id("f"),
  kernel: component("a", "kernel", 1000),
  os: component("b", "os", 9000),
  programs: [],
  resources: { cpus: 2, memoryBytes: 2 ** 29, dataBytes: 2 ** 30, ports: [] },
  serviceLevel: { clouds: [], regions: ["sicily"], priority: 50, maySlowDown: false },
};

function offer(cloud: string, holds: string, change: Partial<Offer> = {}): Offer {
  return {
    cloud,
    region: "sicily",
    cpusFree: 4,
    memoryFreeBytes: 2 ** 31,
    storageFreeBytes: 2 ** 40,
    accelerators: ["tcg"],
    cpuModels: ["max"],
    formats: ["raw"],
    architectures: ["amd64"],
    egressPricePerGB: 0,
    receives: true,
    repository: {
      components: holds.length,
      heads: holds.split("").map((letter) => summaryHead(id(letter))),
      complete: true,
    },
    seq: 1,
    expires_ms: 1000,
    ...change,
  };
}

const request = { appliance, allocatedBytes: 100, now_ms: 10 };
const order = (offers: readonly Offer[]) => rankClouds(request, offers).map(({ cloud }) => cloud);

test("the cloud that misses the fewest bytes comes first", () => {
  assert.deepEqual(order([offer("x", "a"), offer("y", "ab"), offer("z", "")]), ["y", "x", "z"]);
});

test("a faster link can outweigh missing bytes", () => {
  const near = offer("near", "a", { linkRate: 1e9 });
  const far = offer("far", "ab", { linkRate: 1e4 });
  assert.deepEqual(order([far, near]), ["near", "far"]);
});

test("every reason against a cloud is named", () => {
  const bad = offer("bad", "ab", {
    receives: false,
    cpusFree: 1,
    memoryFreeBytes: 1,
    storageFreeBytes: 1,
    region: "lombardy",
    expires_ms: 5,
  });
  const [first, second] = rankClouds(request, [bad, offer("good", "")]);
  assert.equal(first?.cloud, "good");
  assert.equal(second?.fits, false);
  assert.equal(second?.reasons.length, 6);
});

test("what a machine takes is not offered to the next, and what it brings need not travel again", () => {
  const before = offer("x", "a", { storageFreeBytes: 20_000 });
  const after = reserve(request, before);
  assert.equal(after.cpusFree, 2);
  assert.equal(after.memoryFreeBytes, 2 ** 31 - 2 ** 29);
  assert.equal(after.storageFreeBytes, 20_000 - 9000 - 100);
  const [again] = rankClouds(request, [after]);
  assert.deepEqual([again?.fits, again?.missingBytes], [true, 0]);
  const [third] = rankClouds(request, [reserve(request, after)]);
  assert.deepEqual(third?.reasons, ["has 0 of 2 CPUs free"]);
});

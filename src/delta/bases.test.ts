import assert from "node:assert/strict";
import { test } from "node:test";
import type { ComponentKind, ComponentReference } from "#core";
import { nearestBases } from "#delta";

let made = 0;

function component(
  kind: ComponentKind,
  name: string,
  version: string,
  sizeBytes = 1_000,
): ComponentReference {
  made += 1;
  const id = `sha256:${String(made).padStart(64, "0")}` as const;
  return { id, kind, name, version, sizeBytes, manifest: { digest: id, sizeBytes: 10 } };
}

test("namesakes come first, from the nearest version outwards", () => {
  const versions = ["1.9", "1.10~rc1", "1.11", "1.12", "1.8"];
  const held = versions.map((version) => component("program", "nginx", version));
  const target = component("program", "nginx", "1.10");
  assert.deepEqual(
    nearestBases(target, held, 9).map((base) => base.version),
    ["1.11", "1.10~rc1", "1.12", "1.9", "1.8"],
  );
  assert.deepEqual(
    nearestBases(component("program", "nginx", "1.9"), held, 2).map((base) => base.version),
    ["1.9", "1.10~rc1"],
  );
});

test("then the same kind, then operating systems, then the rest", () => {
  const kernel = component("kernel", "linux", "6.1");
  const system = component("os", "debian", "12");
  const far = component("program", "redis", "7", 9_000);
  const near = component("program", "mariadb", "10", 1_100);
  const target = component("program", "nginx", "1", 1_000);
  assert.deepEqual(nearestBases(target, [kernel, system, far, near, target], 9), [
    near,
    far,
    system,
    kernel,
  ]);
  assert.deepEqual(nearestBases(target, [kernel, near, far, system].toReversed(), 3), [
    near,
    far,
    system,
  ]);
  assert.deepEqual(nearestBases(target, [near], 0), []);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { SUMMARY_HEADS_MAX, type Component, type ComponentDescription } from "#core";
import { summaryOf } from "#repository";
import { bytesOf, describe, digestOf, withCode } from "./fixtures.suite.ts";
import { decodeIndex, decodeManifest } from "./decode.ts";
import { selectComponent } from "./resolve.ts";

function component(seed: string, changes: Partial<ComponentDescription>): Component {
  const blob = { digest: digestOf(bytesOf(`${seed} blob`, 1)), sizeBytes: 1 };
  const id = digestOf(bytesOf(seed, 8));
  return { id, sizeBytes: 1, fragments: blob, manifest: blob, description: describe(changes) };
}

const DEBIAN_OS = component("a", { kind: "os", name: "debian-12", version: "12.9" });
const DEBIAN_KERNEL = component("b", { kind: "kernel", name: "debian-12", version: "6.1.0-37" });
const NGINX_OLD = component("c", { name: "nginx", version: "1.22.1-9~bpo1" });
const NGINX = component("d", { name: "nginx", version: "1.22.1-9" });
const ARM = component("e", { name: "nginx", version: "1.22.1-8", architecture: "arm64" });
const ARM_TOO = component("f", { name: "nginx", version: "1.22.1-8" });
const ALL = [DEBIAN_OS, DEBIAN_KERNEL, NGINX_OLD, NGINX, ARM, ARM_TOO];

test("texts mean components", () => {
  const table: readonly (readonly [string, Component])[] = [
    ["nginx", NGINX],
    ["program/nginx", NGINX],
    ["nginx@1.22.1-9~bpo1", NGINX_OLD],
    ["os/debian-12", DEBIAN_OS],
    ["kernel/debian-12@6.1.0-37", DEBIAN_KERNEL],
    [ARM.id, ARM],
    [ARM.id.slice("sha256:".length), ARM],
    [ARM.id.slice(0, "sha256:".length + 8), ARM],
  ];
  for (const [text, expected] of table) assert.equal(selectComponent(ALL, text), expected, text);
});

test("texts that mean none or several are refused", () => {
  for (const text of ["", "apache", "os/nginx", "disk/nginx", "nginx@1", "0000000", "a/b/c", "@"]) {
    const select = () => selectComponent(ALL, text);
    assert.throws(select, withCode("repository.component-unknown"), text);
  }
  for (const text of ["debian-12", "nginx@1.22.1-8"]) {
    const select = () => selectComponent(ALL, text);
    assert.throws(select, withCode("repository.component-ambiguous"), text);
  }
});

test("a name of hexadecimal digits goes before a digest", () => {
  const digits = ARM.id.slice(7, 17);
  const named = component("g", { name: digits });
  assert.equal(selectComponent([...ALL, named], digits), named);
});

test("any text gives a component or one of two errors", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 80 }), (text) => {
      try {
        assert.ok(ALL.includes(selectComponent(ALL, text)));
      } catch (error) {
        assert.match(
          (error as { code: string }).code,
          /^repository\.component-(unknown|ambiguous)$/,
        );
      }
    }),
  );
});

test("a summary is bounded, sorted, and says when it is not complete", () => {
  const many = Array.from({ length: SUMMARY_HEADS_MAX + 1 }, (_, n) => component(`n${n}`, {}));
  const summary = summaryOf(many);
  assert.equal(summary.components, SUMMARY_HEADS_MAX + 1);
  assert.equal(summary.heads.length, SUMMARY_HEADS_MAX);
  assert.equal(summary.complete, false);
  assert.deepEqual(summary.heads, summary.heads.toSorted());
  assert.ok(summary.heads.every((head) => /^[0-9a-f]{16}$/.test(head)));
  assert.equal(summaryOf(many.slice(1)).complete, true);
  assert.deepEqual(summaryOf([]), { components: 0, heads: [], complete: true });
});

test("the summary of a very large repository is as small as that of any", () => {
  const many = Array.from({ length: 10_000 }, (_, n) => component(`n${n}`, {}));
  const summary = summaryOf(many);
  assert.equal(summary.components, 10_000);
  assert.equal(summary.heads.length, 256);
  assert.ok(JSON.stringify(summary).length < 6000);
  const lowest = many
    .map(({ id }) => id)
    .toSorted()
    .slice(0, 256);
  assert.deepEqual(
    summary.heads,
    lowest.map((id) => id.slice(7, 23)),
  );
});

test("any JSON, and any bytes, decode or are refused with a code", () => {
  const contents = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.json({ maxDepth: 6 }).map((text) => new TextEncoder().encode(text)),
    fc.constant(new TextEncoder().encode("[".repeat(100_000))),
    fc.constant(new TextEncoder().encode('{"schemaVersion":2,"manifests":[{"digest":"x"}]}')),
  );
  fc.assert(
    fc.property(contents, (content) => {
      for (const decode of [decodeManifest, decodeIndex]) {
        const attempt = () => decode(content);
        assert.throws(attempt, withCode("repository.json-invalid"));
      }
    }),
    { numRuns: 500 },
  );
});

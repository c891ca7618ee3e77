import assert from "node:assert/strict";
import { isAbsolute } from "node:path";
import { test } from "node:test";
import { layoutOf } from "./layout.ts";

test("paths are absolute, wherever the agent was started", () => {
  const layout = layoutOf("here");
  assert.deepEqual(layout, layoutOf(`${process.cwd()}/here`));
  for (const path of Object.values(layout)) assert.ok(isAbsolute(path), path);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { newFstab } from "./fstab.ts";

const ROOT = "UUID=u / ext4 errors=remount-ro 0 1\n";

test("the root's line comes first, and lines that are used stay", () => {
  const old = "# a note\n/dev/sda1 / ext4 defaults 0 1\ntmpfs /tmp tmpfs size=1G 0 0\n";
  assert.deepEqual(newFstab(old, "u", false), {
    text: `${ROOT}# a note\n# /dev/sda1 / ext4 defaults 0 1\ntmpfs /tmp tmpfs size=1G 0 0\n`,
    left: ["/dev/sda1 / ext4 defaults 0 1"],
  });
  assert.deepEqual(newFstab("", "u", false), { text: ROOT, left: [] });
});

test("nothing of a table that the machine does not use is used afterwards", () => {
  const { text, left } = newFstab("UUID=1 none swap sw 0 0\nUUID=2 /srv ext4", "u", true);
  assert.equal(text, `${ROOT}# UUID=1 none swap sw 0 0\n# UUID=2 /srv ext4\n`);
  assert.equal(left.length, 2);
});

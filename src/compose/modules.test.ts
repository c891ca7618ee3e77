import assert from "node:assert/strict";
import { test } from "node:test";
import { withCode } from "./fixtures.suite.ts";
import { modulesToLoad } from "./modules.ts";

const DEPENDENCIES = `kernel/virtio_pci.ko: kernel/legacy.ko kernel/virtio.ko kernel/ring.ko
kernel/legacy.ko:
kernel/virtio.ko: kernel/ring.ko
kernel/ring.ko:
kernel/virtio-blk.ko: kernel/virtio.ko kernel/ring.ko
kernel/overlay.ko:
kernel/unrelated.ko: kernel/virtio.ko
`;
const BUILT_IN = "kernel/fs/ext4/ext4.ko\nkernel/fs/erofs/erofs.ko\n";

test("a module follows all that it depends on, once; others and built-in ones are left out", () => {
  const order = modulesToLoad({ dependencies: DEPENDENCIES, builtIn: BUILT_IN }, "6.1");
  assert.deepEqual(
    order.map((path) => path.slice("kernel/".length, -".ko".length)),
    ["legacy", "ring", "virtio", "virtio_pci", "virtio-blk", "overlay"],
  );
});

test("a kernel without a module that is needed is refused by its name", () => {
  const lists = { dependencies: DEPENDENCIES, builtIn: "kernel/fs/ext4/ext4.ko\n" };
  assert.throws(() => modulesToLoad(lists, "6.1"), /kernel 6\.1 has no module erofs/);
  assert.throws(() => modulesToLoad(lists, "6.1"), withCode("compose.kernel-unsuitable"));
});

test("a compressed module is refused", () => {
  const dependencies = DEPENDENCIES.replace("overlay.ko", "overlay.ko.xz");
  assert.throws(() => modulesToLoad({ dependencies, builtIn: BUILT_IN }, "6.1"), /compressed/);
});

test("modules that depend on each other do not loop", () => {
  const dependencies = `${DEPENDENCIES}kernel/sd_mod.ko: kernel/a.ko\nkernel/a.ko: kernel/sd_mod.ko\n`;
  const order = modulesToLoad({ dependencies, builtIn: BUILT_IN }, "6.1");
  assert.equal(order.filter((path) => path === "kernel/sd_mod.ko").length, 1);
});

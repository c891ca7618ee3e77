import assert from "node:assert/strict";
import { test } from "node:test";
import { binaryProvides, binaryRequires, highestVersions } from "./binary.ts";
import type { Elf } from "./elf.ts";

function binary(path: string, elf: Partial<Elf>) {
  return {
    path,
    elf: { machine: 62, dynamic: true, needed: [], defined: [], required: [], ...elf },
  };
}

test("the highest version of each series is kept", () => {
  assert.deepEqual(
    highestVersions(["GLIBC_2.4", "GLIBC_2.34", "GLIBC_2.14", "GLIBC_PRIVATE", "OPENSSL_3.0.0"]),
    ["GLIBC_2.34", "GLIBC_PRIVATE", "OPENSSL_3.0.0"],
  );
  assert.deepEqual(highestVersions(["CXXABI_1.3.9", "CXXABI_1.3.13", "GLIBCXX_3.4"]), [
    "CXXABI_1.3.13",
    "GLIBCXX_3.4",
  ]);
});

test("libraries are offered only from where the linker looks", () => {
  const elf = { soname: "libx.so.1", defined: ["X_1.0", "X_1.2"] };
  assert.deepEqual(binaryProvides([binary("usr/lib/x86_64-linux-gnu/libx.so.1.2.3", elf)]), [
    { type: "soname", name: "libx.so.1", version: "X_1.2" },
  ]);
  assert.deepEqual(binaryProvides([binary("usr/lib/x86_64-linux-gnu/app/libx.so.1", elf)]), []);
  assert.deepEqual(binaryProvides([binary("usr/bin/x", elf)]), []);
});

test("what a program brings itself is not needed", () => {
  const needs = binaryRequires([
    binary("usr/bin/app", {
      needed: ["libprivate.so", "libc.so.6", "libz.so.1"],
      required: [
        { library: "libc.so.6", versions: ["GLIBC_2.14", "GLIBC_2.34"] },
        { library: "libprivate.so", versions: ["PRIVATE_1"] },
      ],
    }),
    binary("usr/lib/app/libprivate.so", { soname: "libprivate.so" }),
  ]);
  assert.deepEqual(needs, [
    { type: "soname", name: "libc.so.6", version: "GLIBC_2.34" },
    { type: "soname", name: "libz.so.1" },
  ]);
});

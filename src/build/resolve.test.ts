import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "#core";
import { DEBIAN_12, parseRecipe } from "./recipe.ts";
import { parseUri, sourceLines } from "./resolve.ts";

const HEX = "ab".repeat(32);

test("a line of apt's is read, with its escapes", () => {
  const uri =
    "http://deb.debian.org/debian/pool/main/libc/libcap2/libcap2-bin_2.66-4%2bdeb12u3_amd64.deb";
  const line = `'${uri}' libcap2-bin_1%3a2.66-4+deb12u3_amd64.deb 35220 SHA256:${HEX}`;
  assert.deepEqual(parseUri(line, DEBIAN_12), {
    name: "libcap2-bin",
    version: "1:2.66-4+deb12u3",
    architecture: "amd64",
    file: "pool/main/libc/libcap2/libcap2-bin_2.66-4+deb12u3_amd64.deb",
    source: "debian",
    sizeBytes: 35220,
    sha256: `sha256:${HEX}`,
  });
  const security = line.replace("debian/pool", "debian-security/pool");
  assert.equal(parseUri(security, DEBIAN_12).source, "security");
});

test("a line without a sha256 or of an unknown archive is refused", () => {
  const lines = [
    `'http://deb.debian.org/debian/a_1_all.deb' a_1_all.deb 1 MD5Sum:${"0".repeat(32)}`,
    `'http://elsewhere.example/a_1_all.deb' a_1_all.deb 1 SHA256:${HEX}`,
    "nonsense",
  ];
  for (const line of lines) {
    assert.throws(
      () => parseUri(line, DEBIAN_12),
      (error) => hasCode(error, "build.resolve-failed"),
      line,
    );
  }
});

test("sources become lines of sources.list", () => {
  const recipe = parseRecipe("kind: os\nname: x1\npackages: [dbus]\n", "r");
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  assert.deepEqual(sourceLines(recipe), [
    `deb [signed-by=${keyring}] http://deb.debian.org/debian bookworm main`,
    `deb [signed-by=${keyring}] http://deb.debian.org/debian bookworm-updates main`,
    `deb [signed-by=${keyring}] http://deb.debian.org/debian-security bookworm-security main`,
  ]);
});

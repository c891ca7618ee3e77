/** Images, recipes and archives. */
import assert from "node:assert/strict";
import { buffer } from "node:stream/consumers";
import { pack } from "tar-stream";
import {
  bufferSource,
  canonicalTree,
  decodeRecipe,
  encodeRecipe,
  readErofs,
  readRecipe,
  readContainerLayer,
  readTar,
  writeErofs,
  type TreeEntry,
} from "#image";
import { recipeWriter } from "../../../src/image/recipe-bytes.ts";
import { NUMBERS, mutate, type FuzzRandom } from "../random.ts";
import type { FuzzTarget } from "../target.ts";

const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };

function file(path: string, sizeBytes: number): TreeEntry {
  const bytes = Buffer.from(
    Array.from({ length: sizeBytes }, (_, at) => (at * 7 + sizeBytes) & 0xff),
  );
  return { ...common, type: "file", path, content: bufferSource(bytes) };
}

const ENTRIES: readonly TreeEntry[] = [
  file("a", 5000),
  file("b/c", 10),
  { ...common, path: "b/s", type: "symlink", target: "c" },
  { ...common, path: "dev", type: "character", major: 5, minor: 700 },
  { ...file("x", 1), xattrs: new Map([["user.a", Buffer.alloc(70)]]) },
  { ...file("é/l1", 20), linkGroup: "group" } as TreeEntry,
  { ...file("é/l2", 20), linkGroup: "group" } as TreeEntry,
  ...Array.from({ length: 8 }, (_, index) => file(`m/${index}`, 0)),
];

async function imageOf(entries: readonly TreeEntry[]): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await writeErofs(canonicalTree(entries), {
    write: async (bytes) => void chunks.push(Buffer.from(bytes)),
  });
  return Buffer.concat(chunks);
}

const images = async (): Promise<Buffer[]> => [
  await imageOf(ENTRIES),
  await imageOf([file("small", 3)]),
  await imageOf([]),
];

const CHECKSUM_FEATURE_AT = 1024 + 8;

/** Most checksums would be wrong, and nothing behind them be looked at. */
function withoutChecksum(random: FuzzRandom, seeds: readonly Buffer[]): Buffer {
  const image = mutate(random, seeds);
  if (image.length > CHECKSUM_FEATURE_AT) image[CHECKSUM_FEATURE_AT] = 2;
  return image;
}

const erofs: FuzzTarget = {
  name: "erofs",
  codes: ["image.erofs-invalid", "image.erofs-unsupported"],
  seeds: images,
  generate: withoutChecksum,
  decode: (input) => readErofs(bufferSource(input)),
};

const anyImage: FuzzTarget = {
  name: "image-recipe",
  codes: [],
  seeds: images,
  generate: withoutChecksum,
  async decode(input) {
    const { recipe, digests } = await readRecipe(bufferSource(input));
    assert.equal(recipe.sizeBytes, input.length);
    assert.equal(digests.length, recipe.contents.length);
  },
};

const PATHS = ["", "a", "a/b", "b", "b/c", "..", "/", "a\0", "é", "a-", "n".repeat(256)];
const KINDS = ["d", "f", "f", "f", "l", "c", "b", "p", "s", "h", "h"];
const small = (random: FuzzRandom): number =>
  random.chance(0.03) ? random.pick(NUMBERS) : random.below(random.pick([2, 8, 200, 5000]));

/** Rows that are mostly right one by one, in an order that is mostly right. */
function rows(random: FuzzRandom): Buffer {
  const pieces: Buffer[] = [];
  const writer = recipeWriter((bytes) => pieces.push(Buffer.from(bytes)));
  writer.bytes(Buffer.from("tessera recipe 1\n"));
  const tree = random.chance(0.8);
  const count = random.below(8) + (tree ? 1 : 0);
  writer.bytes(Buffer.from(tree ? "t" : "k"));
  writer.number(random.chance(0.05) ? small(random) : count);
  const content = (): void => {
    const sizeBytes = small(random);
    writer.number(sizeBytes);
    if (sizeBytes > 0) writer.bytes(Buffer.alloc(8, random.below(3)));
  };
  for (let row = 0; row < count; row += 1) {
    if (!tree) {
      content();
      continue;
    }
    const kind = row === 0 ? "d" : random.pick(KINDS);
    writer.bytes(Buffer.from(kind));
    const depth = random.chance(0.9) ? Math.max(0, row - 1) : 0;
    writer.number(random.chance(0.9) ? depth : small(random));
    writer.text(
      row === 0
        ? ""
        : random.chance(0.8)
          ? random.pick(["a", "a", "a", "/a", "b"])
          : random.pick(PATHS),
    );
    if (kind === "h") {
      writer.text(random.pick(["a", "aa", "aaa", "b", ...PATHS]));
      continue;
    }
    writer.number(kind === "l" ? 0o777 : small(random));
    writer.number(small(random));
    writer.number(small(random));
    const xattrs = random.chance(0.9) ? 0 : random.below(3);
    writer.number(xattrs);
    for (let left = xattrs; left > 0; left -= 1) {
      writer.text(random.pick(["user.a", "user.b", "trusted.x", "bad"]));
      writer.string(random.bytes(random.below(20)));
    }
    if (kind === "f") content();
    if (kind === "l") writer.text(random.pick(["x", "../y", ...PATHS]));
    if (kind === "c" || kind === "b")
      [small(random), small(random)].forEach((n) => writer.number(n));
    writer.number(small(random));
  }
  writer.end();
  return Buffer.concat(pieces);
}

const recipe: FuzzTarget = {
  name: "recipe",
  codes: ["image.recipe-invalid"],
  async seeds() {
    const recipes = await Promise.all(
      [...(await images()), Buffer.alloc(300_000, "x")].map((image) =>
        readRecipe(bufferSource(image)),
      ),
    );
    return recipes.map(({ recipe }) => Buffer.from(encodeRecipe(recipe)));
  },
  generate: rows,
  decode(input) {
    const decoded = decodeRecipe(input);
    assert.ok(Buffer.from(encodeRecipe(decoded)).equals(input), "another encoding");
    let covered = 0;
    for (const [index, { sizeBytes }] of decoded.contents.entries()) {
      for (const extents of decoded.places(index)) {
        assert.equal(
          extents.reduce((sum, { length }) => sum + length, 0),
          sizeBytes,
        );
        for (const { position, length } of extents) {
          assert.ok(
            position >= 0 && position + length <= decoded.sizeBytes,
            "outside of the image",
          );
        }
        covered += sizeBytes;
      }
    }
    const metadata = decoded.metadata(decoded.contents.map(() => Buffer.alloc(32)));
    const known = metadata.reduce((sum, { bytes }) => sum + bytes.length, 0);
    assert.ok(covered + known <= decoded.sizeBytes, "places overlap");
  },
};

async function archive(): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: "./", type: "directory", mode: 0o755 });
  tar.entry({ name: "a/b", pax: { "SCHILY.xattr.user.note": "text", mtime: "12.5" } }, "hello");
  tar.entry({ name: "a/link", type: "link", linkname: "a/b" });
  tar.entry({ name: "s", type: "symlink", linkname: "a/b" });
  tar.entry({ name: `${"n".repeat(120)}/${"m".repeat(120)}`, size: 5 }, "12345");
  tar.entry({ name: "tty", type: "character-device", devmajor: 5, devminor: 1 });
  tar.finalize();
  return await buffer(tar);
}

/** With right checksums, so that more than the first header is looked at. */
function checksummed(random: FuzzRandom, seeds: readonly Buffer[]): Buffer {
  const bytes = mutate(random, seeds);
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    if (bytes.toString("latin1", at + 257, at + 262) !== "ustar") continue;
    bytes.fill(" ", at + 148, at + 156);
    const sum = bytes.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
    bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, at + 148);
  }
  return bytes;
}

const tar: FuzzTarget = {
  name: "tar",
  codes: ["image.tar-invalid"],
  seeds: async () => [await archive()],
  generate: checksummed,
  decode: (input) => readTar(bufferSource(input)),
};

async function layer(): Promise<Buffer> {
  const archive = pack();
  archive.entry({ name: "a/.wh.b" }, "");
  archive.entry({ name: "a/.wh..wh..opq" }, "");
  archive.entry({ name: "link/new" }, "text");
  archive.entry({ name: "d/d/e" }, "text");
  archive.finalize();
  return await buffer(archive);
}

const BELOW = canonicalTree([
  { ...common, path: "a/b", type: "directory" },
  { ...common, path: "link", type: "symlink", target: "a/../a" },
  { ...common, path: "c", type: "symlink", target: "c" },
]);

/** Over a tree with links, one of which leads to itself. */
const containerLayer: FuzzTarget = {
  name: "container-layer",
  codes: ["image.tar-invalid", "image.overlay-unsupported"],
  seeds: async () => [await archive(), await layer()],
  generate: checksummed,
  decode: (input) => readContainerLayer(bufferSource(input), BELOW),
};

export const IMAGE_TARGETS: readonly FuzzTarget[] = [recipe, erofs, anyImage, tar, containerLayer];

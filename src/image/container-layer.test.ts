/** Layers of container images: marks, links, what is left out, and what is hostile. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { pack, type Header } from "tar-stream";
import { hasCode, TesseraError } from "#core";
import {
  bufferSource,
  mergeTrees,
  readContainerLayer,
  type Tree,
  type TreeEntry,
} from "./index.ts";

type Item = string | (Partial<Header> & { readonly name: string; readonly text?: string });

/** A name that ends with `/` is a directory; a text alone is a file that holds its own name. */
async function tar(items: readonly Item[]): Promise<Buffer> {
  const archive = pack();
  for (const item of items) {
    const { text, ...header } = typeof item === "string" ? { name: item, text: item } : item;
    const isDirectory = header.name.endsWith("/");
    const common = { mtime: new Date(5_000), type: isDirectory ? "directory" : "file" } as const;
    const size = header.type === undefined && !isDirectory ? { size: (text ?? "").length } : {};
    archive.entry({ ...common, ...size, ...header }, isDirectory ? "" : (text ?? ""));
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function stacked(...layers: readonly (readonly Item[])[]) {
  let below = mergeTrees([]);
  const read = [];
  for (const items of layers) {
    const layer = await readContainerLayer(bufferSource(await tar(items)), below);
    read.push(layer);
    below = mergeTrees([below, layer.tree]);
  }
  return { layers: read, whole: below };
}

const paths = ({ entries }: Tree): string[] => entries.map(({ path }) => path).filter(Boolean);

function at(tree: Tree, path: string): TreeEntry {
  const entry = tree.get(path);
  assert.ok(entry, path);
  return entry;
}

const invalid = (error: unknown): boolean => hasCode(error, "image.tar-invalid");

test("marks remove what lower layers have, and nothing of their own layer", async () => {
  const { whole, layers } = await stacked(
    ["a/", "a/x", "a/y", "b/", "b/x", "c", "d/", "d/x"],
    [
      "a/.wh.x",
      "b/.wh..wh..opq",
      "b/new",
      ".wh.c",
      ".wh.none",
      ".wh.d",
      "d/",
      "d/own",
      ".wh..wh.plnk/",
    ],
  );
  assert.deepEqual(paths(whole), ["a", "a/y", "b", "b/new", "d", "d/own"]);
  assert.deepEqual(layers[1]?.removed, ["a/x", "c"]);
  assert.deepEqual(layers[1]?.emptied, ["b", "d"]);
});

test("directories that an archive leaves out are those of below", async () => {
  const { whole } = await stacked(
    [
      { name: "./", mode: 0o700 },
      { name: "tmp/", mode: 0o1777, uid: 3, gid: 4 },
    ],
    ["tmp/x", "new/y"],
  );
  assert.deepEqual([at(whole, "tmp").mode, at(whole, "tmp").uid], [0o1777, 3]);
  assert.equal(at(whole, "").mode, 0o700);
  assert.equal(at(whole, "new").mode, 0o755);
});

test("a path that leads through a link of below is where the link leads", async () => {
  const { whole } = await stacked(
    [
      "usr/bin/sh",
      { name: "bin", type: "symlink", linkname: "usr/bin" },
      { name: "up", type: "symlink", linkname: "/bin/../../.." },
    ],
    ["bin/tool", { name: "usr/bin/link", type: "link", linkname: "bin/tool" }, "up/top"],
    ["bin/", "bin/own"],
  );
  assert.deepEqual(paths(whole), [
    "bin",
    "bin/own",
    "top",
    "up",
    "usr",
    "usr/bin",
    "usr/bin/link",
    "usr/bin/sh",
    "usr/bin/tool",
  ]);
});

const HOSTILE: readonly (readonly Item[])[] = [
  ["../x"],
  ["a/../../x"],
  ["x", "x/y"],
  [".wh..."],
  [".wh."],
  ["a/.wh..."],
  [{ name: "x", type: "link", linkname: "/etc/passwd" }],
  ["loop/x"],
  [`${"d/".repeat(3000)}x`],
];

for (const items of HOSTILE) {
  test(`refused: ${JSON.stringify(items).slice(0, 60)}`, async () => {
    const below = [{ name: "loop", type: "symlink", linkname: "loop" } as const, "..y"];
    await assert.rejects(stacked(below, items), invalid);
  });
}

test("marks of overlayfs itself are refused", async () => {
  const device = { name: "x", type: "character-device", devmajor: 0, devminor: 0 } as const;
  const xattr = { name: "x/", pax: { "SCHILY.xattr.trusted.overlay.opaque": "y" } };
  for (const item of [device, xattr]) {
    await assert.rejects(stacked([item]), (error: unknown) =>
      hasCode(error, "image.overlay-unsupported"),
    );
  }
});

/** What unpacking layer by layer gives, by the rules alone: files by path. */
function model(layers: readonly (readonly string[])[]): string[] {
  const files = new Set<string>();
  const removeBelow = (path: string): void => {
    for (const file of files) if (file === path || file.startsWith(`${path}/`)) files.delete(file);
  };
  for (const layer of layers) {
    for (const item of layer) if (item.includes(".wh.")) removeBelow(item.replace(".wh.", ""));
    for (const item of layer) {
      if (item.includes(".wh.")) continue;
      removeBelow(item);
      const parents = item.split("/").map((_, index, all) => all.slice(0, index).join("/"));
      for (const parent of parents) files.delete(parent);
      files.add(item);
    }
  }
  return [...files].toSorted();
}

test("layers merge as they would unpack", async () => {
  const name = fc.constantFrom("a", "b");
  const path = fc.array(name, { minLength: 1, maxLength: 3 });
  const item = fc.tuple(path, fc.boolean()).map(([names, mark]) => {
    const last = names.at(-1) ?? "";
    return [...names.slice(0, -1), mark ? `.wh.${last}` : last].join("/");
  });
  const layers = fc.array(fc.uniqueArray(item, { maxLength: 4 }), { maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(layers, async (given) => {
      try {
        const { whole } = await stacked(...given);
        const files = whole.entries.filter(({ type }) => type === "file").map(({ path: at }) => at);
        assert.deepEqual(files.toSorted(), model(given));
      } catch (error) {
        // A layer that has a file and something below it is none.
        if (!(error instanceof TesseraError)) throw error;
        assert.equal(error.code, "image.tar-invalid");
      }
    }),
    { numRuns: 200 },
  );
});

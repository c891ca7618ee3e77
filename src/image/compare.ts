import { sameContent } from "./content.ts";
import type { Tree, TreeEntry } from "./contract.ts";
import { sameXattrs } from "./entry.ts";

const DIFFERENCES_MAX = 100;

const octal = (mode: number): string => mode.toString(8).padStart(4, "0");

function* commonDifferences(a: TreeEntry, b: TreeEntry): Generator<string> {
  if (a.mode !== b.mode) yield `mode ${octal(a.mode)} and ${octal(b.mode)}`;
  if (a.uid !== b.uid) yield `uid ${a.uid} and ${b.uid}`;
  if (a.gid !== b.gid) yield `gid ${a.gid} and ${b.gid}`;
  if (a.mtime_s !== b.mtime_s) yield `mtime ${a.mtime_s} and ${b.mtime_s}`;
  if (!sameXattrs(a.xattrs, b.xattrs)) {
    yield `xattrs ${[...a.xattrs.keys()].join(",")} and ${[...b.xattrs.keys()].join(",")}`;
  }
}

async function* typeDifferences(a: TreeEntry, b: TreeEntry): AsyncGenerator<string> {
  if (a.type === "symlink" && b.type === "symlink" && a.target !== b.target) {
    yield `target ${a.target} and ${b.target}`;
  }
  const devices = [a, b].map((entry) =>
    entry.type === "character" || entry.type === "block" ? `${entry.major}:${entry.minor}` : "",
  );
  if (devices[0] !== devices[1]) yield `device ${devices.join(" and ")}`;
  if (a.type !== "file" || b.type !== "file") return;
  if (a.linkGroup !== b.linkGroup) {
    yield `link of ${a.linkGroup ?? "nothing"} and ${b.linkGroup ?? "nothing"}`;
  }
  if (a.content.sizeBytes !== b.content.sizeBytes) {
    yield `size ${a.content.sizeBytes} and ${b.content.sizeBytes}`;
  } else if (!(await sameContent(a.content, b.content))) yield "content";
}

/** What two entries of one path differ in, in words. */
async function* entryDifferences(a: TreeEntry, b: TreeEntry): AsyncGenerator<string> {
  if (a.type !== b.type) {
    yield `type ${a.type} and ${b.type}`;
    return;
  }
  yield* commonDifferences(a, b);
  yield* typeDifferences(a, b);
}

async function* treeDifferences(a: Tree, b: Tree): AsyncGenerator<string> {
  for (const entry of a.entries) {
    const other = b.get(entry.path);
    if (other === undefined) yield `${entry.path}: only in the first`;
    else for await (const text of entryDifferences(entry, other)) yield `${entry.path}: ${text}`;
  }
  for (const { path } of b.entries) {
    if (a.get(path) === undefined) yield `${path}: only in the second`;
  }
}

/** What two trees differ in, one text each, for people; empty for equal trees, at most 100. */
export async function compareTrees(a: Tree, b: Tree): Promise<string[]> {
  const found: string[] = [];
  for await (const text of treeDifferences(a, b)) {
    if (found.length === DIFFERENCES_MAX) break;
    found.push(text);
  }
  return found;
}

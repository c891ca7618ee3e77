/** The glue: the small layer on top of the components that makes one system of them. */
import { bufferSource, canonicalTree } from "#image";
import type { Tree, TreeEntry } from "#image";
import { mergeFragments } from "./merge.ts";
import type { FragmentSource } from "./merge.ts";

/** 2020-01-01: a time that is the same everywhere, and that no tool takes for "no time". */
const TIME_S = 1_577_836_800;

const READY_UNIT = "tessera-ready.service";
const UNITS = "etc/systemd/system";

/**
 * The guest's only word to the host: on the second serial line, when all of the multi-user target
 * has been started. Being wanted by the target that it waits for is no cycle: systemd leaves out
 * the target's implied order after a unit that is ordered after the target (systemd.target(5)).
 */
const READY_TEXT = `[Unit]
Description=Tell the host that this machine is ready
After=multi-user.target
ConditionPathExists=/dev/ttyS1

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "ready $(cat /proc/sys/kernel/random/boot_id)" >/dev/ttyS1'

[Install]
WantedBy=multi-user.target
`;

/** What is of use only to a host of ours. */
export const READY_PATHS: readonly string[] = [
  `${UNITS}/${READY_UNIT}`,
  `${UNITS}/multi-user.target.wants/${READY_UNIT}`,
  `${UNITS}/serial-getty@ttyS1.service`,
];

/**
 * The tree of the glue: the merged fragments and the guest's side of the ready signal. The second
 * serial line belongs to that signal, so no login prompt may open it.
 *
 * @throws what `mergeFragments` throws
 */
export function glueTree(os: FragmentSource, programs: readonly FragmentSource[]): Tree {
  const merged = mergeFragments(os, programs).map(({ path, text, mode, gid }) =>
    file(path.slice(1), text, mode, gid),
  );
  const [unit = "", wanted = "", getty = ""] = READY_PATHS;
  const own = [file(unit, READY_TEXT), link(wanted, `../${READY_UNIT}`), link(getty, "/dev/null")];
  const entries = [...merged, ...own];
  return canonicalTree([...directories(entries), ...entries]);
}

const common = (path: string, mode: number, gid = 0) => ({
  path,
  mode,
  uid: 0,
  gid,
  mtime_s: TIME_S,
  xattrs: new Map<string, Uint8Array>(),
});

function file(path: string, text: string, mode = 0o644, gid = 0): TreeEntry {
  return { ...common(path, mode, gid), type: "file", content: bufferSource(Buffer.from(text)) };
}

function link(path: string, target: string): TreeEntry {
  return { ...common(path, 0o777), type: "symlink", target };
}

/** All parents, the root included: root's and 0755, as they are in every Debian system. */
function directories(entries: readonly TreeEntry[]): TreeEntry[] {
  const paths = new Set([""]);
  for (const { path } of entries) {
    const names = path.split("/").slice(0, -1);
    for (const depth of names.keys()) paths.add(names.slice(0, depth + 1).join("/"));
  }
  return [...paths].map((path) => ({ ...common(path, 0o755), type: "directory" }));
}

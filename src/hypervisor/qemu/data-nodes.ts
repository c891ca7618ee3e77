/**
 * The user data block as QEMU block nodes. The guest's device is on the node `data`, whichever file
 * or server is below it.
 */
import type { Json } from "#core";
import type { IncomingOptions, MachineSpecification } from "../contract.ts";

export type BlockNode = Readonly<Record<string, Json>> & {
  readonly driver: string;
  readonly "node-name": string;
};
export type RemoteData = NonNullable<IncomingOptions["data"]>;

export const DATA_NODE = "data";
/** Below `data` while a server is asked for the data. */
export const REMOTE_NODE = "data-remote";
/** Below `data` once the file has taken the server's place. */
export const PIVOTED_NODE = "data-pivoted";

/** How long a request waits for a server that has gone before the guest is stopped. */
const RECONNECT_S = 300;
const OPEN_S = 10;

/** Discards reach the file only when the nodes of format and file both let them through. */
const UNMAP = { discard: "unmap", cache: { direct: false, "no-flush": false } } as const;

/**
 * Write-back through the host's page cache: a flush of the guest is an fdatasync of the file, so
 * what the guest has flushed is on the disk. `locking=on` keeps a second QEMU from the file.
 */
export function fileNode(path: string, name: string): BlockNode {
  return { driver: "file", "node-name": name, filename: path, locking: "on", ...UNMAP };
}

/** The node `data`, raw over the node of this name. */
export function rawDataNode(below: string): BlockNode {
  const node = { driver: "raw", "node-name": DATA_NODE, file: below };
  return { ...node, ...UNMAP, "detect-zeroes": "unmap" };
}

/** All nodes of the user data block, each after what it needs. */
export function dataNodes(specification: MachineSpecification, remote?: RemoteData): BlockNode[] {
  const { dataPath, basePath, dataFormat = "raw" } = specification;
  if (remote !== undefined) return [remoteNode(remote), rawDataNode(REMOTE_NODE)];
  const file = fileNode(dataPath, "data-file");
  if (basePath === undefined) return [file, { ...rawDataNode("data-file"), driver: dataFormat }];
  const overlay = { ...rawDataNode("data-file"), driver: "qcow2", backing: "base" };
  return [...readOnlyNodes(basePath, "base"), file, overlay];
}

/** A raw file that is only read: NAME over NAME-file. The overlay's own word for it is not used. */
export function readOnlyNodes(path: string, name: string): BlockNode[] {
  const file = { driver: "file", "node-name": `${name}-file`, filename: path };
  const format = { driver: "raw", "node-name": name, file: `${name}-file` };
  return [
    { ...file, "read-only": true },
    { ...format, "read-only": true },
  ];
}

/**
 * Without `reconnect-delay`, requests fail at once when the server goes away; with it they wait. The
 * server is never a backing file that QEMU streams from: it would read zeroes when the link dies.
 */
function remoteNode({ socketPath, exportName }: RemoteData): BlockNode {
  return {
    driver: "nbd",
    "node-name": REMOTE_NODE,
    server: { type: "unix", path: socketPath },
    export: exportName,
    "reconnect-delay": RECONNECT_S,
    "open-timeout": OPEN_S,
    ...UNMAP,
  };
}

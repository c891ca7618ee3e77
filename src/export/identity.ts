/** The names that an exported disk has: always the same for one machine. Pure. */
import { createHash } from "node:crypto";

export interface DiskIdentity {
  /** UUIDs as text, lower case. */
  readonly disk: string;
  readonly bios: string;
  readonly esp: string;
  readonly root: string;
  /** Of the root's file system. */
  readonly fileSystem: string;
  /** Volume id of the EFI system partition. */
  readonly volume: number;
}

/** Version 8 (RFC 9562) from the sha256 of the machine's UUID and a role. */
function derived(machineUuid: string, role: string): string {
  const hex = createHash("sha256").update(`tessera export ${role} ${machineUuid}`).digest("hex");
  const variant = "89ab"[Number.parseInt(hex[16] ?? "0", 16) % 4] ?? "8";
  const parts = [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`];
  return [...parts, `${variant}${hex.slice(17, 20)}`, hex.slice(20, 32)].join("-");
}

export function identityOf(machineUuid: string): DiskIdentity {
  const of = (role: string): string => derived(machineUuid, role);
  return {
    disk: of("disk"),
    bios: of("bios"),
    esp: of("esp"),
    root: of("root"),
    fileSystem: of("file system"),
    volume: Number.parseInt(of("volume").slice(0, 8), 16),
  };
}

/** The 16 bytes of a UUID in the order of its text. */
export function uuidBytes(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll("-", ""), "hex");
}

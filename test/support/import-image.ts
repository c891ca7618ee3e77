/** Disk images of real Debian machines, made once per work tree into `build/test/import`. */
import { spawnSync } from "node:child_process";
import { hash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "../../build/test/import");
const MAKER = resolve(import.meta.dirname, "import-image.sh");
const COMMON = "linux-image-cloud-amd64,systemd-sysv,udev,dbus";

const MACHINES = { first: "redis-server", second: "nginx-light" } as const;

/**
 * The path of a machine's image; one process makes it, the others wait and find it. It needs the
 * Debian archive.
 */
export function importImage(name: keyof typeof MACHINES): string {
  mkdirSync(ROOT, { recursive: true });
  const packages = `${COMMON},${MACHINES[name]}`;
  const version = hash("sha256", `${packages}\n${readFileSync(MAKER, "utf8")}`).slice(0, 16);
  const path = join(ROOT, `${name}-${version}.qcow2`);
  const make = `[ -e "$1" ] || exec "$0" "$@"`;
  const command = ["sh", "-c", make, MAKER, path, packages, name];
  const { status, stderr } = spawnSync("flock", [join(ROOT, "lock"), ...command], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`the image ${name} cannot be made: ${stderr.slice(-2000)}`);
  return path;
}

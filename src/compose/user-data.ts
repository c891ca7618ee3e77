/** The user data block of a new machine: a sparse raw file with ext4, made without root. */
import { createHash } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { TesseraError } from "#core";
import type { ComposedDisks, World } from "#core";
import type { InstanceFile, InstanceParts } from "./contract.ts";
import { DATA_LABEL } from "./init-script.ts";
import { checkInstanceParts, type CheckedParts } from "./instance-files.ts";

const BLOCK_BYTES = 4096;
const SIZE_BYTES_MIN = 64 * 2 ** 20;
const SIZE_BYTES_MAX = 16 * 2 ** 40;
/** Room for bursts of writes; larger would only be more to move. */
const JOURNAL_MIB = 16;
const TIMEOUT_MS = 120_000;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const HOSTNAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export interface UserDataOptions extends InstanceParts {
  /** The machine's UUID, lower case. */
  readonly uuid: string;
  /** One label of RFC 1123: 1 to 63 lower-case letters, digits and hyphens. */
  readonly hostname: string;
  /** 64 MiB to 16 TiB, whole 4 KiB blocks. */
  readonly sizeBytes: number;
}

/**
 * UUID of the file system in a machine's user data block: version 8 (RFC 9562) from the sha256 of
 * the machine's UUID, so that it is known without reading the block.
 *
 * @throws `compose.uuid-invalid` (misuse)
 */
export function userDataUuid(machineUuid: string): string {
  checkUuid(machineUuid);
  const hash = createHash("sha256").update(`tessera user data ${machineUuid}`).digest("hex");
  const variant = "89ab"[Number.parseInt(hash[16] ?? "0", 16) % 4] ?? "8";
  const parts = [hash.slice(0, 8), hash.slice(8, 12), `8${hash.slice(13, 16)}`];
  return [...parts, `${variant}${hash.slice(17, 20)}`, hash.slice(20, 32)].join("-");
}

/**
 * The disks as this machine starts them: the command line names its user data block, so that the
 * machine does not start on another one's. The composition's digest is that of the disks without
 * it, which is equal for all machines of an appliance.
 *
 * @throws `compose.uuid-invalid` (misuse)
 */
export function withUserData(disks: ComposedDisks, machineUuid: string): ComposedDisks {
  const uuid = userDataUuid(machineUuid).replaceAll("-", "");
  return { ...disks, commandLine: `${disks.commandLine} tessera.data=${uuid}` };
}

/**
 * Makes the user data block: ext4 with overlayfs's `upper` and `work` directories, the machine's
 * name and id (`/etc/hostname`, `/etc/hosts`, `/etc/machine-id`) and the instance's parts in
 * `upper`, which win over what components have at the same paths. Written beside and renamed: the path never names a half-made block. An existing file
 * at `path` is replaced; one caller at a time may make a path. Needs `mke2fs` and `debugfs` (e2fsprogs 1.47 or newer), no root.
 *
 * @throws `compose.uuid-invalid`, `compose.hostname-invalid`, `compose.data-size-invalid`,
 *   `compose.instance-path-invalid` (misuse), `compose.user-data-failed` (environment)
 */
export async function createUserData(
  world: World,
  path: string,
  options: UserDataOptions,
): Promise<void> {
  check(options);
  const parts = checkInstanceParts({
    ...options,
    files: [...identityFiles(options), ...options.files],
  });
  const staging = `${path}.new-${world.random.uuid()}`;
  const image = `${staging}/image`;
  await world.files.makeDirectory(dirname(path));
  await removeLeftovers(world, path);
  await world.files.makeDirectory(staging, 0o700);
  try {
    await makeFileSystem(world, staging, options);
    await populate(world, staging, parts);
    await makeDurable(world, image);
    await world.files.rename(image, path);
  } finally {
    await world.files.removeTree(staging);
  }
}

/** What an earlier call for this path left when its process died. */
async function removeLeftovers(world: World, path: string): Promise<void> {
  const directory = dirname(path);
  const names = await world.files.list(directory);
  for (const name of names.filter((item) => item.startsWith(`${basename(path)}.new-`))) {
    await world.files.removeTree(join(directory, name));
  }
}

function check({ uuid, hostname, sizeBytes }: UserDataOptions): void {
  checkUuid(uuid);
  if (!HOSTNAME.test(hostname)) {
    throw new TesseraError(
      "misuse",
      "compose.hostname-invalid",
      `"${hostname}" is not a host name`,
      {
        subject: hostname,
        remedy: "use 1 to 63 lower-case letters, digits and hyphens",
      },
    );
  }
  const fits = sizeBytes >= SIZE_BYTES_MIN && sizeBytes <= SIZE_BYTES_MAX;
  if (!fits || sizeBytes % BLOCK_BYTES !== 0) {
    const message = `a user data block cannot have ${sizeBytes} bytes`;
    throw new TesseraError("misuse", "compose.data-size-invalid", message, {
      remedy: "choose a size from 64M to 16T that is a multiple of 4K",
    });
  }
}

function checkUuid(uuid: string): void {
  if (UUID.test(uuid)) return;
  throw new TesseraError("misuse", "compose.uuid-invalid", `"${uuid}" is not a UUID`, {
    subject: uuid,
    remedy: "write 32 lower-case hexadecimal digits in groups of 8-4-4-4-12",
  });
}

function textFile(path: string, text: string, mode = 0o644): InstanceFile {
  return { path, content: Buffer.from(text), mode };
}

function identityFiles({ uuid, hostname }: UserDataOptions): InstanceFile[] {
  const hosts = `127.0.0.1\tlocalhost\n127.0.1.1\t${hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n`;
  return [
    textFile("/etc/hostname", `${hostname}\n`),
    textFile("/etc/hosts", hosts),
    textFile("/etc/machine-id", `${uuid.replaceAll("-", "")}\n`, 0o444),
  ];
}

/**
 * Few blocks are touched: inode tables and journal are declared zero, which a sparse file is, so
 * the guest's kernel does not write them either.
 */
async function makeFileSystem(
  world: World,
  staging: string,
  { uuid, sizeBytes }: UserDataOptions,
): Promise<void> {
  const file = await world.files.open(`${staging}/image`, "exclusive", 0o600);
  try {
    await file.truncate(sizeBytes);
  } finally {
    await file.close();
  }
  const id = userDataUuid(uuid);
  const extended = [
    "lazy_itable_init=1",
    "lazy_journal_init=1",
    "assume_storage_prezeroed=1",
    "root_owner=0:0",
    `hash_seed=${id}`,
    "nodiscard",
  ];
  const layout = ["-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0"];
  const journal = ["-J", `size=${sizeBytes < 2 ** 30 ? JOURNAL_MIB / 4 : JOURNAL_MIB}`];
  const names = ["-U", id, "-L", DATA_LABEL, "-e", "remount-ro", "-E", extended.join(",")];
  await tool(world, "mke2fs", ["-q", "-F", ...layout, ...journal, ...names, "image"], staging);
}

interface Owned {
  readonly path: string;
  /** Type and permission bits. */
  readonly mode: number;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
}

async function populate(
  world: World,
  staging: string,
  { files, links, directories }: CheckedParts,
): Promise<void> {
  const inUpper = directories.map((one) => ({ ...one, path: `/upper${one.path}` }));
  const top = ["/upper", "/work"].map((path) => ({ path, mode: 0o755 }));
  const commands = [...top, ...inUpper].flatMap((one) => [
    `mkdir ${one.path}`,
    ...owned({ ...one, mode: 0o040000 | one.mode }),
  ]);
  for (const [index, { path, content, mode = 0o644, uid, gid }] of files.entries()) {
    await world.files.writeFileAtomic(`${staging}/${index}`, content, 0o600);
    const target = `/upper${path}`;
    commands.push(`cd ${dirname(target)}`, `write ${index} ${basename(target)}`);
    commands.push(...owned({ path: target, mode: 0o100000 | mode, uid, gid }));
  }
  for (const { path, target } of links) {
    const place = `/upper${path}`;
    commands.push(`cd ${dirname(place)}`, `symlink ${basename(place)} ${target}`);
    commands.push(...owned({ path: place, mode: 0o120777 }));
  }
  await world.files.writeFileAtomic(`${staging}/commands`, `${commands.join("\n")}\n`, 0o600);
  const errors = await tool(world, "debugfs", ["-w", "-f", "commands", "image"], staging);
  refuseFaults(errors);
}

function owned({ path, mode, uid = 0, gid = 0 }: Owned): string[] {
  const set = (field: string, value: string): string => `set_inode_field ${path} ${field} ${value}`;
  return [set("mode", `0${mode.toString(8)}`), set("uid", `${uid}`), set("gid", `${gid}`)];
}

/** debugfs ends with 0 whatever its commands did; what they complain of is on standard error. */
function refuseFaults(errorText: string): void {
  const faults = errorText.split("\n").filter((line) => !/^(debugfs [\d.]+.*)?$/.test(line));
  if (faults.length > 0) throw failed("debugfs", faults.join("; "));
}

/** Runs a tool of e2fsprogs in `directory`; gives its standard error. */
async function tool(
  world: World,
  program: string,
  args: readonly string[],
  directory: string,
): Promise<string> {
  const result = await world.processes.run(program, args, { directory, timeout_ms: TIMEOUT_MS });
  if (result.exitCode === 0) return result.errorText;
  throw failed(program, result.errorText.trim() || `exit code ${result.exitCode}`);
}

function failed(program: string, detail: string): TesseraError {
  const message = `the user data block could not be made: ${program}: ${detail}`;
  return new TesseraError("environment", "compose.user-data-failed", message, {
    subject: program,
    remedy: "check the free space and that e2fsprogs 1.47 or newer is installed",
  });
}

async function makeDurable(world: World, image: string): Promise<void> {
  const file = await world.files.open(image, "write");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

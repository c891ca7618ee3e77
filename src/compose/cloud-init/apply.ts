/**
 * User data of a new machine: handed to the guest's own cloud-init where it has one, else applied
 * here as far as doc/cloud-init.md says.
 */
import type { InstanceDirectory, InstanceFile, InstanceLink, InstanceParts } from "../contract.ts";
import { Accounts, type Account, type AccountTexts } from "./accounts.ts";
import { everyBoot, firstBoot, text } from "./commands.ts";
import type { CloudInit, GuestFacts, MachineIdentity } from "./contract.ts";
import { checked, checkSize, invalid, readYaml, unsupported } from "./document.ts";
import { networkPieces } from "./network.ts";
import { cloudConfig, metaData, type CloudConfig, type WishedFile } from "./schema.ts";

const SEED = "/var/lib/cloud/seed/nocloud";
const ACCOUNTS = { passwd: 0, group: 0, shadow: 42, gshadow: 42 } as const;

/**
 * What is put into the machine's user data block.
 *
 * @throws `compose.cloud-init-invalid`, `compose.cloud-init-unsupported` (misuse)
 */
export async function cloudInitParts(
  given: CloudInit,
  guest: GuestFacts,
  identity: MachineIdentity,
): Promise<InstanceParts> {
  checkSize("user-data", given.userData ?? "");
  checkSize("meta-data", given.metaData ?? "");
  checkSize("network-config", given.networkConfig ?? "");
  if (guest.packages.has("cloud-init")) return seed(given, identity);
  return await apply(given, guest);
}

/** The NoCloud source looks there; without network-config it must not find an empty one. */
function seed(
  { userData, metaData: meta, networkConfig }: CloudInit,
  { uuid, hostname }: MachineIdentity,
): InstanceParts {
  const own = `instance-id: ${uuid}\nlocal-hostname: ${hostname}\n`;
  const files = [
    text(`${SEED}/user-data`, userData ?? "#cloud-config\n{}\n", 0o600),
    text(`${SEED}/meta-data`, meta ?? own, 0o600),
    ...(networkConfig === undefined ? [] : [text(`${SEED}/network-config`, networkConfig, 0o600)]),
  ];
  return { files };
}

async function apply(given: CloudInit, guest: GuestFacts): Promise<InstanceParts> {
  const { config, script } = readUserData(given.userData ?? "");
  const meta = checked("meta-data", metaData, readYaml("meta-data", given.metaData ?? "{}") ?? {});
  const keys = Object.values(meta["public-keys"] ?? {});
  requireTools(config, script, given, guest);
  const accounts = new Accounts(await accountTexts(guest));
  const before = accounts.texts();
  const users = usersOf(config, keys, accounts, guest);
  const after = accounts.texts();
  const ran = [firstBoot(config.runcmd, script), everyBoot(config.bootcmd)];
  const resolver = guest.packages.has("systemd-resolved");
  const { networkConfig } = given;
  const network = networkConfig === undefined ? [] : [networkPieces(networkConfig, resolver)];
  return {
    files: [
      ...hostFiles(config, meta["local-hostname"] ?? meta.hostname),
      ...accountFiles(before, after),
      ...users.flatMap(keyFiles),
      ...sudoFiles(users),
      ...settingFiles(config),
      ...[...ran, ...network].flatMap(({ files }) => files),
      ...(config.write_files ?? []).map((file) => writtenFile(file, accounts)),
    ],
    directories: users.flatMap(directoriesOf),
    links: [...timeLinks(config), ...[...ran, ...network].flatMap(({ links }) => links)],
  };
}

function readUserData(given: string): { readonly config: CloudConfig; readonly script?: string } {
  if (given.startsWith("#!")) return { config: {}, script: given };
  if (given.trim() === "") return { config: {} };
  if (!/^#cloud-config\s*\n/.test(given)) {
    const [first = ""] = given.split("\n", 1);
    throw unsupported("user-data", [`what begins with "${first.slice(0, 40)}"`]);
  }
  const value = readYaml("user-data", given) ?? {};
  return { config: checked("user-data", cloudConfig, withoutIdle(value)) };
}

/** A module that is told to do nothing needs nobody who could do it. */
function withoutIdle(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const known = new Set(Object.keys(cloudConfig.shape));
  return Object.fromEntries(
    Object.entries(value).filter(([key, one]) => known.has(key) || !isIdle(one)),
  );
}

function isIdle(value: unknown): boolean {
  return value === false || value === null || (Array.isArray(value) && value.length === 0);
}

/** What is only done with the help of a package that the guest lacks is said before. */
function requireTools(
  config: CloudConfig,
  script: string | undefined,
  { networkConfig }: CloudInit,
  { packages }: GuestFacts,
): void {
  const lacking = (name: string, ...wished: readonly (string | false)[]): string[] =>
    packages.has(name)
      ? []
      : wished.flatMap((what) => (what === false ? [] : [`${what} (no package ${name})`]));
  const sudoers = config.users?.some(
    (user) => typeof user === "object" && (user.sudo ?? []).length > 0,
  );
  const all = [
    ...lacking(
      "systemd",
      config.runcmd !== undefined && "runcmd",
      config.bootcmd !== undefined && "bootcmd",
      script !== undefined && "a script",
      networkConfig !== undefined && "network-config",
    ),
    ...lacking("tzdata", config.timezone !== undefined && "timezone"),
    ...lacking("sudo", sudoers === true && "sudo"),
    ...lacking("openssh-server", config.ssh_pwauth !== undefined && "ssh_pwauth"),
  ];
  if (all.length > 0) throw unsupported("user-data", all);
}

async function accountTexts({ textOf }: GuestFacts): Promise<AccountTexts> {
  return {
    passwd: await textOf("/etc/passwd"),
    group: await textOf("/etc/group"),
    shadow: await textOf("/etc/shadow"),
    gshadow: await textOf("/etc/gshadow"),
  };
}

function usersOf(
  config: CloudConfig,
  metaKeys: readonly string[],
  accounts: Accounts,
  { packages }: GuestFacts,
): Account[] {
  accounts.addGroups(config.groups);
  const keys = [...(config.ssh_authorized_keys ?? []), ...metaKeys];
  const wished = config.users ?? (keys.length > 0 ? ["default" as const] : []);
  if (keys.length > 0 && !wished.includes("default")) {
    throw invalid("user-data", 'has keys for the default user, and "users" without "default"');
  }
  const users = wished.map((user) => {
    if (user === "default") return accounts.addDefaultUser(keys, packages.has("sudo"));
    return accounts.addUser(typeof user === "string" ? { name: user } : user);
  });
  const root = config.disable_root === false && keys.length > 0;
  return root ? [...users, accounts.addUser({ name: "root", ssh_authorized_keys: keys })] : users;
}

function hostFiles(
  { hostname, fqdn, preserve_hostname }: CloudConfig,
  named: string | undefined,
): InstanceFile[] {
  const full = fqdn ?? hostname ?? named;
  if (full === undefined || preserve_hostname === true) return [];
  const [short = ""] = (hostname ?? full).split(".", 1);
  const names = full === short ? short : `${full} ${short}`;
  const hosts = `127.0.0.1\tlocalhost\n127.0.1.1\t${names}\n::1\tlocalhost ip6-localhost ip6-loopback\n`;
  return [text("/etc/hostname", `${short}\n`), text("/etc/hosts", hosts)];
}

function accountFiles(before: AccountTexts, after: AccountTexts): InstanceFile[] {
  return (["passwd", "group", "shadow", "gshadow"] as const)
    .filter((name) => before[name] !== after[name])
    .map((name) => ({
      ...text(`/etc/${name}`, after[name], ACCOUNTS[name] === 0 ? 0o644 : 0o640),
      gid: ACCOUNTS[name],
    }));
}

function keyFiles({ uid, gid, home, keys }: Account): InstanceFile[] {
  if (keys.length === 0) return [];
  const content = keys.map((key) => `${key}\n`).join("");
  return [{ ...text(`${bare(home)}/.ssh/authorized_keys`, content, 0o600), uid, gid }];
}

function directoriesOf({ uid, gid, home, makesHome, keys }: Account): InstanceDirectory[] {
  const owned = { mode: 0o700, uid, gid };
  return [
    ...(makesHome ? [{ path: bare(home), ...owned }] : []),
    ...(keys.length > 0 ? [{ path: `${bare(home)}/.ssh`, ...owned }] : []),
  ];
}

/** `/` is no prefix. */
function bare(home: string): string {
  return home.replace(/\/+$/, "");
}

function sudoFiles(users: readonly Account[]): InstanceFile[] {
  const lines = users.flatMap(({ name, sudo }) => sudo.map((rule) => `${name} ${rule}\n`));
  if (lines.length === 0) return [];
  return [text("/etc/sudoers.d/90-cloud-init-users", lines.join(""), 0o440)];
}

function settingFiles({ timezone, locale, ssh_pwauth }: CloudConfig): InstanceFile[] {
  const answer = ssh_pwauth === true ? "yes" : "no";
  return [
    ...(timezone === undefined ? [] : [text("/etc/timezone", `${timezone}\n`)]),
    ...(locale === undefined ? [] : [text("/etc/default/locale", `LANG=${locale}\n`)]),
    ...(ssh_pwauth === undefined
      ? []
      : [text("/etc/ssh/sshd_config.d/50-cloud-init.conf", `PasswordAuthentication ${answer}\n`)]),
  ];
}

function timeLinks({ timezone }: CloudConfig): InstanceLink[] {
  if (timezone === undefined) return [];
  return [{ path: "/etc/localtime", target: `/usr/share/zoneinfo/${timezone}` }];
}

function writtenFile(
  { path, content, encoding, owner, permissions }: WishedFile,
  accounts: Accounts,
): InstanceFile {
  const ids = accounts.ownerOf(owner);
  if (ids === undefined)
    throw invalid("user-data", `write_files: ${path}: no such owner: ${owner}`);
  const bytes =
    encoding === "text/plain" ? Buffer.from(content ?? "") : Buffer.from(content ?? "", "base64");
  return { path, content: bytes, mode: permissions, ...ids };
}

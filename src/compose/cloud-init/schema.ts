/** The part of cloud-config that is applied without cloud-init; doc/cloud-init.md specifies it. */
import { z } from "zod";

const USERS_MAX = 100;
const FILES_MAX = 500;
const COMMANDS_MAX = 1000;

const isLine = (text: string): boolean =>
  Array.from(text).every((character) => character >= " " && character !== "\u007f");

const line = (max: number) =>
  z.string().min(1).max(max).refine(isLine, { error: "holds a control character" });

const account = z
  .string()
  .regex(/^[a-z_][a-z0-9_-]{0,31}$/, "is not a user's or group's name in lower case");

const plainPath = z
  .string()
  .max(1024)
  .regex(/^(\/[A-Za-z0-9._@+-]+)+$/, "is not a plain absolute path")
  .refine((path) => path.split("/").every((name) => name !== "." && name !== ".."), {
    error: "has . or .. in it",
  });

const field = z
  .string()
  .max(256)
  .refine((text) => isLine(text) && !text.includes(":"), { error: "has a colon or a line break" });

/** A text or a list of texts, as cloud-init takes both. */
const names = z.union([z.string(), z.array(account).max(100)]).transform((value, context) => {
  const list = typeof value === "string" ? value.split(",").map((name) => name.trim()) : value;
  const wrong = list.find((name) => !account.safeParse(name).success);
  if (wrong === undefined) return list;
  context.addIssue({ code: "custom", message: `"${wrong}" is not a group's name` });
  return z.NEVER;
});

const keys = z.array(line(16_384)).max(100);
const sudo = z
  .union([line(1024), z.array(line(1024)).max(20), z.literal(false), z.null()])
  .transform((value) => (typeof value === "string" ? [value] : value || []));

const hash = z
  .string()
  .max(512)
  .regex(/^[!*]?\$[0-9a-z]+\$[A-Za-z0-9./$=,+-]+$/, "is not a hashed password such as $6$…");

const user = z.strictObject({
  name: account,
  gecos: field.optional(),
  homedir: plainPath.optional(),
  shell: plainPath.optional(),
  primary_group: account.optional(),
  groups: names.optional(),
  uid: z.coerce.number().int().min(1).max(60_000).optional(),
  system: z.boolean().optional(),
  no_create_home: z.boolean().optional(),
  lock_passwd: z.boolean().optional(),
  passwd: hash.optional(),
  hashed_passwd: hash.optional(),
  ssh_authorized_keys: keys.optional(),
  sudo: sudo.optional(),
});

const members = z.union([account, z.array(account).max(100)]);
const group = z.union([
  account,
  z.record(account, members).refine((all) => Object.keys(all).length <= USERS_MAX, {
    error: `has more than ${USERS_MAX} groups`,
  }),
]);

const permissions = z.union([
  z
    .string()
    .regex(/^(0o?)?[0-7]{3,4}$/, "is no octal mode")
    .transform(modeOf),
  z.int().min(0).max(0o7777),
]);

function modeOf(text: string): number {
  return Number.parseInt(text.replace("o", ""), 8);
}

const writeFile = z.strictObject({
  path: z.string().max(1024),
  content: z.union([z.string(), z.null()]).default(""),
  encoding: z.enum(["text/plain", "b64", "base64"]).default("text/plain"),
  owner: z
    .string()
    .regex(/^[a-z0-9_][a-z0-9_-]{0,31}(:[a-z0-9_][a-z0-9_-]{0,31})?$/, "is not USER:GROUP")
    .default("root:root"),
  permissions: permissions.default(0o644),
  append: z.literal(false).optional(),
  defer: z.boolean().optional(),
});

const word = z.union([z.string().max(65_536), z.number(), z.boolean()]).transform(String);
const command = z.union([z.string().max(65_536), z.array(word).min(1).max(1000), z.null()]);
const commands = z.array(command).max(COMMANDS_MAX);

const label = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const hostname = z
  .string()
  .max(253)
  .refine((text) => text.split(".").every((part) => label.test(part)), {
    error: "is not a host name",
  });

export const cloudConfig = z.strictObject({
  hostname: hostname.optional(),
  fqdn: hostname.optional(),
  preserve_hostname: z.boolean().optional(),
  manage_etc_hosts: z.union([z.boolean(), z.literal("localhost")]).optional(),
  users: z
    .array(z.union([z.literal("default"), user, account]))
    .max(USERS_MAX)
    .optional(),
  groups: z.array(group).max(USERS_MAX).optional(),
  ssh_authorized_keys: keys.optional(),
  ssh_pwauth: z.boolean().optional(),
  disable_root: z.boolean().optional(),
  write_files: z.array(writeFile).max(FILES_MAX).optional(),
  timezone: z
    .string()
    .max(64)
    .regex(/^[A-Za-z0-9_+-]+(\/[A-Za-z0-9_+-]+){0,3}$/, "is not a time zone")
    .optional(),
  locale: z.enum(["C", "C.UTF-8", "POSIX"], { error: "is none that every guest has" }).optional(),
  runcmd: commands.optional(),
  bootcmd: commands.optional(),
  final_message: z.string().max(65_536).optional(),
});

export type CloudConfig = z.output<typeof cloudConfig>;
export type WishedUser = z.output<typeof user>;
export type WishedFile = z.output<typeof writeFile>;
export type Commands = z.output<typeof commands>;

/** Of NoCloud: what names the machine, and keys for its first user. */
export const metaData = z.looseObject({
  "local-hostname": hostname.optional(),
  hostname: hostname.optional(),
  "public-keys": z.union([keys, z.record(z.string().max(256), line(16_384))]).optional(),
});

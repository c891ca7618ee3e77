/** The files that the glue is made of: their format, and who may read them, as Debian has it. */

/** Group `shadow` has the fixed id 42 (base-passwd). */
const SHADOW_GROUP = 42;

/**
 * How a file is cut into records and by what a record is known:
 *
 * - `colon`: one per line, by the first field (`passwd(5)`, `group(5)`, `shadow(5)`);
 * - `stanza`: fields up to an empty line, by the fields of `keys`;
 * - `triple`: three lines, by the first (dpkg's diversions);
 * - `line`: one per line, by the field number `key`, counted from 0; without one by all of it.
 */
export type FragmentFormat =
  | { readonly kind: "colon"; readonly identity?: number; readonly members?: readonly number[] }
  | { readonly kind: "stanza"; readonly keys: readonly string[]; readonly sorted: boolean }
  | { readonly kind: "triple" }
  | { readonly kind: "line"; readonly key?: number };

export interface FragmentPath {
  readonly format: FragmentFormat;
  readonly mode: number;
  readonly gid: number;
  /** What a record is called in messages. */
  readonly record: string;
}

const file = (record: string, format: FragmentFormat, mode = 0o644, gid = 0): FragmentPath => ({
  format,
  mode,
  gid,
  record,
});

const DPKG = { kind: "stanza", keys: ["Package", "Architecture"], sorted: true } as const;
const DEBCONF = { kind: "stanza", keys: ["Name"], sorted: true } as const;

const FRAGMENT_PATHS: ReadonlyMap<string, FragmentPath> = new Map([
  ["/etc/passwd", file("user", { kind: "colon", identity: 2 })],
  ["/etc/group", file("group", { kind: "colon", identity: 2, members: [3] })],
  ["/etc/shadow", file("user", { kind: "colon" }, 0o640, SHADOW_GROUP)],
  ["/etc/gshadow", file("group", { kind: "colon", members: [2, 3] }, 0o640, SHADOW_GROUP)],
  ["/etc/subuid", file("user", { kind: "colon" })],
  ["/etc/subgid", file("group", { kind: "colon" })],
  ["/etc/shells", file("shell", { kind: "line" })],
  ["/var/lib/dpkg/status", file("package", DPKG)],
  ["/var/lib/dpkg/diversions", file("diversion", { kind: "triple" })],
  ["/var/lib/dpkg/statoverride", file("override", { kind: "line", key: 3 })],
  ["/var/lib/apt/extended_states", file("package", { ...DPKG, sorted: false })],
  ["/var/cache/debconf/config.dat", file("question", DEBCONF)],
  ["/var/cache/debconf/templates.dat", file("template", DEBCONF)],
  ["/var/cache/debconf/passwords.dat", file("question", DEBCONF, 0o600)],
]);

/** Who is interested in which trigger: `File`, `Unincorp` and one file for each named trigger. */
const TRIGGERS = /^\/var\/lib\/dpkg\/triggers\/[^/]+$/;

/** Undefined for a path that cannot be merged. */
export function fragmentPath(path: string): FragmentPath | undefined {
  return TRIGGERS.test(path) ? file("trigger", { kind: "line" }) : FRAGMENT_PATHS.get(path);
}

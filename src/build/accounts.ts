import { TesseraError, type Constraint, type Fragment } from "#core";
import type { Recipe } from "./contract.ts";
import { field, formatStanzas, parseStanzas, type Stanza } from "./stanzas.ts";

const SECONDS_PER_DAY = 86_400;

/** Ids that packages take as they come (Debian policy 9.2.2); group 100 is base-passwd's. */
function isDynamic(id: number): boolean {
  return id >= 100 && id <= 999;
}

interface Account {
  readonly name: string;
  readonly id: number;
}

function accountsOf(text: string): Account[] {
  return text
    .split("\n")
    .map((line) => line.split(":"))
    .filter((fields) => fields.length > 2)
    .map(([name = "", , id]) => ({ name, id: Number(id) }));
}

function textOf(fragments: readonly Fragment[], path: string): string {
  return fragments.find((fragment) => fragment.path === path)?.text ?? "";
}

/**
 * Every system user and group that packages made must have the id that a recipe gives it: ids
 * that come as they may would collide between programs that were built apart.
 *
 * @throws `build.user-not-fixed` (misuse)
 */
export function checkAccounts(fragments: readonly Fragment[], recipes: readonly Recipe[]): void {
  const users = recipes.flatMap((recipe) => recipe.users);
  const groups = [
    ...users,
    ...recipes.flatMap((recipe) => recipe.groups),
    { name: "users", id: 100 },
  ];
  const lists = [
    ["user", accountsOf(textOf(fragments, "/etc/passwd")), users],
    ["group", accountsOf(textOf(fragments, "/etc/group")), groups],
  ] as const;
  for (const [what, accounts, fixed] of lists) {
    const known = new Map(fixed.map(({ name, id }) => [name, id]));
    const loose = accounts.find(({ name, id }) => isDynamic(id) && known.get(name) !== id);
    if (loose === undefined) continue;
    const text = `the packages of ${recipes.at(-1)?.name ?? ""} make the ${what} ${loose.name}`;
    throw new TesseraError("misuse", "build.user-not-fixed", `${text} without a fixed id`, {
      subject: loose.name,
      remedy: `give it an id in the recipe's ${what}s`,
    });
  }
}

/** The users that a `passwd` text offers. */
export function userConstraints(fragments: readonly Fragment[]): Constraint[] {
  return accountsOf(textOf(fragments, "/etc/passwd")).map(({ name }) => ({ type: "user", name }));
}

/** Passwords count their age from the epoch, whenever an account was made. */
function withAge(shadow: string, epoch_s: number): string {
  const day = String(Math.floor(epoch_s / SECONDS_PER_DAY));
  return shadow.replace(/^([^:\n]*:[^:\n]*:)\d+(:)/gm, `$1${day}$2`);
}

/** apt's record of what nobody asked for: what came along and may go when no longer needed. */
function extendedStates(
  controls: readonly Stanza[],
  recipes: readonly Recipe[],
  architecture: string,
): string {
  const asked = new Set(["apt", ...recipes.flatMap((recipe) => recipe.packages)]);
  const automatic = controls.filter(
    (control) =>
      !asked.has(field(control, "Package")) &&
      field(control, "Essential") !== "yes" &&
      field(control, "Priority") !== "required",
  );
  return formatStanzas(
    automatic.map((control) => {
      const name = field(control, "Package");
      return `Package: ${name}\nArchitecture: ${architecture}\nAuto-Installed: 1`;
    }),
  );
}

/** Sets in whole-file fragments what depends on the time or on how the packages were asked for. */
export function settleFragments(
  fragments: readonly Fragment[],
  controls: readonly Stanza[],
  recipes: readonly Recipe[],
  epoch_s: number,
): Fragment[] {
  const states = "/var/lib/apt/extended_states";
  const kept = fragments
    .filter(({ path }) => path !== states)
    .map(({ path, text }) => ({
      path,
      text: path === "/etc/shadow" ? withAge(text, epoch_s) : text,
    }));
  const text = extendedStates(controls, recipes, recipes[0]?.architecture ?? "");
  return [...kept, { path: states, text }].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

/**
 * Every package of the lock must be installed and configured, and no other.
 *
 * @throws `build.install-failed` (environment)
 */
export function checkInstalled(
  fragments: readonly Fragment[],
  names: readonly string[],
  recipeName: string,
): void {
  const stanzas = parseStanzas(textOf(fragments, "/var/lib/dpkg/status"));
  const complete = stanzas.filter((stanza) => field(stanza, "Status") === "install ok installed");
  const installed = new Set(complete.map((stanza) => field(stanza, "Package")));
  const faults = [
    ...names.filter((name) => !installed.has(name)),
    ...stanzas.map((stanza) => field(stanza, "Package")).filter((name) => !names.includes(name)),
  ];
  const [fault] = faults;
  if (fault === undefined) return;
  const text = `${fault} of ${recipeName} is not installed as the lock says`;
  throw new TesseraError("environment", "build.install-failed", text, {
    subject: fault,
    remedy: "make the lock anew: tessera component build --relock",
  });
}

/** Users and groups, added to the account files of a guest. Pure. */
import { unsupported } from "./document.ts";
import type { CloudConfig, WishedUser } from "./schema.ts";

const FIRST_ID = 1000;
const LAST_ID = 59_999;
const FIRST_SYSTEM_ID = 999;
const LAST_SYSTEM_ID = 100;

/** As cloud-init has it on Debian; groups that the guest lacks are left out. */
const DEFAULT_USER: WishedUser = {
  name: "debian",
  gecos: "Debian",
  shell: "/bin/bash",
  groups: [
    "adm",
    "audio",
    "cdrom",
    "dialout",
    "dip",
    "floppy",
    "netdev",
    "plugdev",
    "sudo",
    "video",
  ],
};
const DEFAULT_SUDO = ["ALL=(ALL) NOPASSWD:ALL"];

/** The account files of a guest, by their last name. */
export type AccountTexts = Readonly<Record<"passwd" | "group" | "shadow" | "gshadow", string>>;

/** A user as it will be. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  /** Whether its home is to be made. */
  readonly makesHome: boolean;
  readonly keys: readonly string[];
  readonly sudo: readonly string[];
}

/** Lines of colon-separated fields, by the first. */
class Records {
  readonly #lines: string[][];

  constructor(text: string) {
    this.#lines = text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split(":"));
  }

  find(name: string): string[] | undefined {
    return this.#lines.find(([first]) => first === name);
  }

  add(...fields: readonly string[]): void {
    this.#lines.push([...fields]);
  }

  ids(): Set<number> {
    return new Set(this.#lines.map((fields) => Number(fields[2])));
  }

  text(): string {
    return this.#lines.map((fields) => `${fields.join(":")}\n`).join("");
  }
}

export class Accounts {
  readonly #passwd: Records;
  readonly #group: Records;
  readonly #shadow: Records;
  readonly #gshadow: Records;

  constructor(texts: AccountTexts) {
    this.#passwd = new Records(texts.passwd);
    this.#group = new Records(texts.group);
    this.#shadow = new Records(texts.shadow);
    this.#gshadow = new Records(texts.gshadow);
  }

  texts(): AccountTexts {
    return {
      passwd: this.#passwd.text(),
      group: this.#group.text(),
      shadow: this.#shadow.text(),
      gshadow: this.#gshadow.text(),
    };
  }

  addGroups(groups: CloudConfig["groups"] = []): void {
    for (const group of groups) {
      const entries = typeof group === "string" ? [[group, []] as const] : Object.entries(group);
      for (const [name, members] of entries) {
        this.#requireGroup(name, false);
        for (const member of [members].flat()) this.#join(name, member);
      }
    }
  }

  /** Makes a user, or takes the one of this name that is there. */
  addUser(wish: WishedUser): Account {
    const existing = this.#passwd.find(wish.name);
    const fields = existing ?? this.#makeUser(wish);
    for (const group of wish.groups ?? []) {
      this.#requireGroup(group, wish.system === true);
      this.#join(group, wish.name);
    }
    this.#setPassword(wish);
    return {
      name: wish.name,
      uid: Number(fields[2]),
      gid: Number(fields[3]),
      home: fields[5] ?? "/",
      makesHome: existing === undefined && wish.no_create_home !== true,
      keys: wish.ssh_authorized_keys ?? [],
      sudo: wish.sudo ?? [],
    };
  }

  /** The user that keys without a user are for. */
  addDefaultUser(keys: readonly string[], canSudo: boolean): Account {
    const groups = DEFAULT_USER.groups?.filter((name) => this.#group.find(name) !== undefined);
    const wish = { ...DEFAULT_USER, groups, ssh_authorized_keys: [...keys] };
    return this.addUser({ ...wish, sudo: canSudo ? DEFAULT_SUDO : [] });
  }

  /** Numbers of `USER:GROUP`; undefined where one of them is not known. */
  ownerOf(text: string): { readonly uid: number; readonly gid: number } | undefined {
    const [user = "", group] = text.split(":");
    const known = this.#passwd.find(user);
    const uid = known === undefined ? numeral(user) : Number(known[2]);
    const gid =
      group === undefined
        ? known === undefined
          ? 0
          : Number(known[3])
        : (numeral(this.#group.find(group)?.[2] ?? group) ?? undefined);
    return uid === undefined || gid === undefined ? undefined : { uid, gid };
  }

  #makeUser(wish: WishedUser): string[] {
    const isSystem = wish.system === true;
    const uid = wish.uid ?? this.#freeId(isSystem);
    const gid = this.#requireGroup(wish.primary_group ?? wish.name, isSystem, uid);
    const home = wish.homedir ?? `/home/${wish.name}`;
    const shell = wish.shell ?? "/bin/sh";
    const fields = [wish.name, "x", String(uid), String(gid), wish.gecos ?? "", home, shell];
    this.#passwd.add(...fields);
    this.#shadow.add(wish.name, "!", "", "0", "99999", "7", "", "", "");
    return fields;
  }

  #setPassword({ name, passwd, hashed_passwd = passwd, lock_passwd = true }: WishedUser): void {
    const shadow = this.#shadow.find(name);
    if (shadow === undefined || hashed_passwd === undefined) return;
    const bare = hashed_passwd.replace(/^[!*]/, "");
    shadow[1] = lock_passwd ? `!${bare}` : bare;
  }

  /** The group's id; a new one gets `wished` where that is free. */
  #requireGroup(name: string, isSystem: boolean, wished?: number): number {
    const known = this.#group.find(name);
    if (known !== undefined) return Number(known[2]);
    const free = wished !== undefined && !this.#group.ids().has(wished);
    const gid = free ? wished : this.#freeId(isSystem);
    this.#group.add(name, "x", String(gid), "");
    this.#gshadow.add(name, "!", "", "");
    return gid;
  }

  #join(group: string, member: string): void {
    for (const fields of [this.#group.find(group), this.#gshadow.find(group)]) {
      if (fields === undefined) continue;
      const members = (fields[3] ?? "").split(",").filter(Boolean);
      if (!members.includes(member)) fields[3] = [...members, member].join(",");
    }
  }

  /** Free as a user's and as a group's. */
  #freeId(isSystem: boolean): number {
    const [users, groups] = [this.#passwd.ids(), this.#group.ids()];
    const step = isSystem ? -1 : 1;
    const last = isSystem ? LAST_SYSTEM_ID : LAST_ID;
    for (let id = isSystem ? FIRST_SYSTEM_ID : FIRST_ID; id !== last; id += step) {
      if (!users.has(id) && !groups.has(id)) return id;
    }
    throw unsupported("user-data", ["users: no id is free"]);
  }
}

function numeral(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** User data: what is taken, what it becomes, what is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { TesseraError } from "#core";
import { failureOf } from "../fixtures.suite.ts";
import { cloudInitParts } from "./apply.ts";
import { readYaml } from "./document.ts";
import type { CloudInit, GuestFacts } from "./contract.ts";

const IDENTITY = { uuid: "0b0c0d0e-1111-4222-8333-444455556666", hostname: "web-1" };
const TEXTS: Readonly<Record<string, string>> = {
  "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nbin:x:1000:1000::/:/bin/false\n",
  "/etc/group": "root:x:0:\nsudo:x:27:\nadm:x:4:bin\nbin:x:1000:\n",
  "/etc/shadow": "root:*:::::::\nbin:!:::::::\n",
  "/etc/gshadow": "root:*::\nsudo:*::\nadm:*::bin\nbin:!::\n",
};
const PACKAGES = ["systemd", "tzdata", "sudo", "openssh-server"];
const HASH = "$6$salt$abc.DEF/0123";

function guest(packages: readonly string[] = PACKAGES): GuestFacts {
  return { packages: new Set(packages), textOf: async (path) => TEXTS[path] ?? "" };
}

async function made(given: CloudInit, packages?: readonly string[]) {
  const {
    files,
    directories = [],
    links = [],
  } = await cloudInitParts(given, guest(packages), IDENTITY);
  return {
    text: (path: string) => files.findLast((file) => file.path === path)?.content.toString(),
    owner: (path: string) => {
      const {
        uid = 0,
        gid = 0,
        mode = 0,
      } = [...files, ...directories].findLast((one) => one.path === path) ?? {};
      return `${uid}:${gid} ${mode.toString(8)}`;
    },
    paths: files.map(({ path }) => path).toSorted(),
    links: Object.fromEntries(links.map(({ path, target }) => [path, target])),
  };
}

const config = (...lines: readonly string[]): CloudInit => ({
  userData: `#cloud-config\n${lines.join("\n")}\n`,
});

async function refusal(given: CloudInit, packages?: readonly string[]): Promise<TesseraError> {
  try {
    await made(given, packages);
  } catch (error) {
    if (error instanceof TesseraError) return error;
    throw error;
  }
  throw new Error("it was taken");
}

test("a guest with cloud-init gets the texts as they are, as a NoCloud seed", async () => {
  const given = { userData: "#include\nhttp://x\n", networkConfig: "version: 2\n" };
  const { text, owner, paths } = await made(given, ["cloud-init"]);
  const seed = "/var/lib/cloud/seed/nocloud";
  assert.deepEqual(
    paths,
    ["meta-data", "network-config", "user-data"].map((name) => `${seed}/${name}`),
  );
  assert.equal(text(`${seed}/user-data`), given.userData);
  assert.equal(text(`${seed}/meta-data`), `instance-id: ${IDENTITY.uuid}\nlocal-hostname: web-1\n`);
  assert.equal(owner(`${seed}/user-data`), "0:0 600");
});

test("users get accounts, groups, keys and rights", async () => {
  const { text, owner } = await made(
    config(
      "groups: [dev, {ops: [ada]}]",
      "users:",
      "  - name: ada",
      "    gecos: Ada L.",
      "    shell: /bin/bash",
      "    groups: sudo, dev",
      "    lock_passwd: false",
      `    passwd: ${HASH}`,
      "    sudo: ALL=(ALL) NOPASSWD:ALL",
      "    ssh_authorized_keys: [ssh-ed25519 AAAA ada@x]",
      "  - {name: backup, system: true, no_create_home: true, homedir: /var/backups, uid: '900'}",
      `  - {name: root, hashed_passwd: ${HASH}}`,
    ),
  );
  const passwd = text("/etc/passwd") ?? "";
  assert.match(passwd, /^ada:x:1003:1003:Ada L\.:\/home\/ada:\/bin\/bash$/m);
  assert.match(passwd, /^backup:x:900:900::\/var\/backups:\/bin\/sh$/m);
  assert.match(text("/etc/group") ?? "", /^sudo:x:27:ada$/m);
  assert.match(text("/etc/group") ?? "", /^dev:x:1001:ada\nops:x:1002:ada$/m);
  assert.ok((text("/etc/shadow") ?? "").includes(`ada:${HASH}:`));
  assert.ok((text("/etc/shadow") ?? "").includes(`root:!${HASH}:`));
  assert.match(text("/etc/gshadow") ?? "", /^dev:!::ada$/m);
  assert.equal(owner("/etc/shadow"), "0:42 640");
  assert.equal(text("/home/ada/.ssh/authorized_keys"), "ssh-ed25519 AAAA ada@x\n");
  assert.equal(owner("/home/ada/.ssh/authorized_keys"), "1003:1003 600");
  assert.equal(owner("/home/ada"), "1003:1003 700");
  assert.equal(owner("/var/backups"), "0:0 0");
  assert.equal(text("/etc/sudoers.d/90-cloud-init-users"), "ada ALL=(ALL) NOPASSWD:ALL\n");
  assert.equal(owner("/etc/sudoers.d/90-cloud-init-users"), "0:0 440");
});

test("keys without a user are the default user's, and root's when that is wanted", async () => {
  const { text, links } = await made({
    ...config("ssh_authorized_keys: [key-1]", "disable_root: false", "timezone: Europe/Rome"),
    metaData: "public-keys: {a: key-2}\nlocal-hostname: db.example.org\n",
  });
  assert.match(
    text("/etc/passwd") ?? "",
    /^debian:x:1001:1001:Debian:\/home\/debian:\/bin\/bash$/m,
  );
  assert.match(text("/etc/group") ?? "", /^adm:x:4:bin,debian$/m);
  assert.equal(text("/home/debian/.ssh/authorized_keys"), "key-1\nkey-2\n");
  assert.equal(text("/root/.ssh/authorized_keys"), "key-1\nkey-2\n");
  assert.equal(text("/etc/hostname"), "db\n");
  assert.match(text("/etc/hosts") ?? "", /^127\.0\.1\.1\tdb\.example\.org db$/m);
  assert.deepEqual(links, { "/etc/localtime": "/usr/share/zoneinfo/Europe/Rome" });
});

test("files, settings and commands", async () => {
  const { text, owner, links } = await made(
    config(
      "hostname: web",
      "fqdn: web.example.org",
      "ssh_pwauth: false",
      "users: [ada]",
      "write_files:",
      "  - {path: /srv/a, content: \"x\\n\", permissions: '0640', owner: 'ada:adm'}",
      "  - {path: /srv/b, content: aGVsbG8=, encoding: b64, permissions: 0700}",
      "runcmd: [echo $HOME, [printf, it's, 3], null]",
      "bootcmd: [[modprobe, x]]",
      "package_update: false",
      "packages: []",
    ),
  );
  assert.equal(text("/etc/hostname"), "web\n");
  assert.match(text("/etc/hosts") ?? "", /web\.example\.org web\n/);
  assert.equal(text("/etc/ssh/sshd_config.d/50-cloud-init.conf"), "PasswordAuthentication no\n");
  assert.equal(owner("/srv/a"), "1001:4 640");
  assert.equal(text("/srv/b"), "hello");
  assert.equal(owner("/srv/b"), "0:0 700");
  const run = text("/var/lib/tessera/first-boot");
  assert.equal(run, "#!/bin/sh\necho $HOME\n'printf' 'it'\\''s' '3'\n");
  assert.match(text("/etc/systemd/system/tessera-each-boot.service") ?? "", /Before=network-pre/);
  assert.equal(Object.keys(links).length, 2);
  const script = await made({ userData: "#!/bin/sh\nexit 1\n" });
  assert.equal(script.owner("/var/lib/tessera/user-script"), "0:0 700");
});

test("networks of both versions become files of systemd-networkd", async () => {
  const two = await made({
    networkConfig: [
      "network:",
      "  version: 2",
      "  ethernets:",
      "    eth0: {match: {macaddress: '52:54:00:12:34:56'}, dhcp4: true, optional: true}",
      "    lan:",
      "      match: {name: 'en*'}",
      "      addresses: [192.0.2.2/24, '2001:db8::2/64']",
      "      gateway4: 192.0.2.1",
      "      routes: [{to: default, via: '2001:db8::1', metric: 5}]",
      "      nameservers: {addresses: [192.0.2.53], search: [example.org]}",
    ].join("\n"),
  });
  const directory = "/etc/systemd/network/10-tessera";
  assert.equal(
    two.text(`${directory}-eth0.network`),
    "[Match]\nMACAddress=52:54:00:12:34:56\n\n[Link]\nRequiredForOnline=no\n\n[Network]\nDHCP=ipv4\n",
  );
  assert.equal(
    two.text(`${directory}-lan.network`),
    "[Match]\nName=en*\n\n[Network]\nDHCP=no\nAddress=192.0.2.2/24\nAddress=2001:db8::2/64\nGateway=192.0.2.1\nDNS=192.0.2.53\nDomains=example.org\n\n[Route]\nDestination=::/0\nGateway=2001:db8::1\nMetric=5\n",
  );
  assert.equal(two.text("/etc/resolv.conf"), "nameserver 192.0.2.53\nsearch example.org\n");
  const one = await made(
    {
      networkConfig: [
        "version: 1",
        "config:",
        "- {type: physical, name: eth0, subnets: [{type: static, address: 10.0.0.2, netmask: 255.255.254.0, gateway: 10.0.0.1}]}",
        "- {type: nameserver, address: 10.0.0.53}",
      ].join("\n"),
    },
    ["systemd", "systemd-resolved"],
  );
  assert.equal(
    one.text(`${directory}-eth0.network`),
    "[Match]\nName=eth0\n\n[Network]\nDHCP=no\nAddress=10.0.0.2/23\nDNS=10.0.0.53\n\n[Route]\nDestination=0.0.0.0/0\nGateway=10.0.0.1\n",
  );
  assert.equal(one.text("/etc/resolv.conf"), undefined);
});

const UNSUPPORTED: readonly (readonly [CloudInit, readonly string[], RegExp])[] = [
  [config("packages: [nginx]", "chpasswd: {expire: false}"), PACKAGES, /packages, chpasswd/],
  [config("users: [{name: a, plain_text_passwd: x}]"), PACKAGES, /users\[0\]\.plain_text_passwd/],
  [{ userData: "Content-Type: multipart/mixed" }, PACKAGES, /what begins with "Content-Type/],
  [config("runcmd: [ls]", "timezone: UTC"), [], /runcmd \(no package systemd\), timezone/],
  [config("users: [{name: a, sudo: ALL=(ALL) ALL}]"), ["systemd"], /sudo \(no package sudo\)/],
  [{ networkConfig: "version: 2\nethernets: {}\nbonds: {}" }, PACKAGES, /bonds/],
];

for (const [given, packages, wanted] of UNSUPPORTED) {
  test(`not without cloud-init: ${String(wanted)}`, async () => {
    const error = await refusal(given, packages);
    assert.equal(error.code, "compose.cloud-init-unsupported");
    assert.match(error.message, wanted);
  });
}

const INVALID: readonly (readonly [CloudInit, RegExp])[] = [
  [config("a: ["), /line \d+/],
  [config("a: &x 1", "hostname: *x"), /aliases/],
  [config("hostname: -x"), /hostname: is not a host name/],
  [config("users: [{name: A}]"), /users\[0\]/],
  [config("users: [{name: a, gecos: 'x:0:0'}]"), /gecos/],
  [config('users: [{name: a, ssh_authorized_keys: ["a\\nb"]}]'), /control character/],
  [config("users: [{name: a, homedir: /a/../b}]"), /homedir/],
  [config("users: [{name: a, passwd: secret}]"), /hashed/],
  [config("users: [a]", "ssh_authorized_keys: [k]"), /default/],
  [config("write_files: [{path: /x, owner: nobody}]"), /no such owner/],
  [config("write_files: [{path: /x, append: true}]"), /append/],
  [{ networkConfig: "version: 2\nethernets: {eth0: {addresses: [1.2.3.4]}}" }, /addresses/],
  [{ networkConfig: 'version: 2\nethernets: {"a\\n[x]": {}}' }, /ethernets/],
  [{ userData: `#cloud-config\n${"x".repeat(300_000)}` }, /longer/],
  [{ userData: `#cloud-config\n${"[".repeat(100_000)}` }, /nested/],
];

for (const [given, wanted] of INVALID) {
  test(`refused: ${String(wanted)} ${JSON.stringify(given).slice(0, 60)}`, async () => {
    const error = await refusal(given);
    assert.equal(error.code, "compose.cloud-init-invalid");
    assert.match(error.message, wanted);
  });
}

test("equal keys: the last counts, however many there are", async () => {
  const many = Array.from({ length: 10_000 }, (_, index) => `k${index}: []`);
  const { text } = await made(config("hostname: a", ...many, "hostname: b"));
  assert.equal(text("/etc/hostname"), "b\n");
});

test("whatever the text is, it is read or refused by a code", () => {
  const piece = fc.constantFrom(
    "a: ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&x ",
    "*x",
    "\n",
    "  ",
    "'",
    "|",
    "? ",
    "!!set ",
    "<<: ",
    "0644",
    "\t",
    "%YAML 1.2\n",
    "---\n",
  );
  const text = fc.oneof(
    fc.string({ maxLength: 40 }),
    fc.array(piece, { maxLength: 40 }).map((all) => all.join("")),
  );
  fc.assert(
    fc.property(text, (given) => {
      try {
        readYaml("user-data", given);
      } catch (error) {
        assert.equal(
          failureOf(() => readYaml("user-data", given)).code,
          "compose.cloud-init-invalid",
        );
        assert.ok(error instanceof TesseraError);
      }
    }),
    { numRuns: 500 },
  );
});

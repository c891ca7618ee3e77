import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { realWorld } from "#system";
import { temporary, withCode } from "./fixtures.suite.ts";
import { createUserData, userDataUuid, withUserData } from "./user-data.ts";
import type { UserDataOptions } from "./user-data.ts";

const UUID = "0b0c0d0e-1111-4222-8333-444455556666";
const OPTIONS: UserDataOptions = {
  uuid: UUID,
  hostname: "web-1",
  sizeBytes: 256 * 2 ** 20,
  files: [],
};

function debugfs(path: string, request: string): string {
  const { stdout, status } = spawnSync("debugfs", ["-R", request, path], { encoding: "utf8" });
  assert.equal(status, 0);
  return stdout;
}

/** `mode uid gid` of a file in the block. */
function owner(path: string, file: string): string {
  const text = debugfs(path, `stat ${file}`);
  const [, mode] = /Mode:\s+(\d+)/.exec(text) ?? [];
  const [, uid, gid] = /User:\s+(\d+)\s+Group:\s+(\d+)/.exec(text) ?? [];
  return `${mode} ${uid} ${gid}`;
}

test("a user data block is a sound, sparse ext4 that is known by the machine's UUID", async () => {
  await temporary(async (directory) => {
    const path = join(directory, "machine", "data.raw");
    await createUserData(realWorld(), path, { ...OPTIONS, sizeBytes: 2 ** 30 });
    const { size, blocks } = await stat(path);
    assert.equal(size, 2 ** 30);
    assert.ok(blocks * 512 < 4 * 2 ** 20, `${blocks * 512} bytes are allocated`);
    const check = spawnSync("e2fsck", ["-fn", path], { encoding: "utf8" });
    assert.equal(check.status, 0, check.stdout);
    const header = spawnSync("dumpe2fs", ["-h", path], { encoding: "utf8" }).stdout;
    assert.match(header, new RegExp(`Filesystem UUID: +${userDataUuid(UUID)}`));
    assert.match(header, /Reserved block count: +0\n/);
    assert.match(header, /volume name: +tessera-data\n/);
    assert.deepEqual(await readdir(join(directory, "machine")), ["data.raw"]);
  });
});

test("the machine's identity and its files are root's, with their modes", async () => {
  await temporary(async (directory) => {
    const path = join(directory, "data.raw");
    const content = Buffer.from("ssh-ed25519 key\n");
    await createUserData(realWorld(), path, {
      ...OPTIONS,
      files: [
        { path: "/root/.ssh/authorized_keys", content, mode: 0o600 },
        { path: "/etc/hosts", content: Buffer.from("127.0.0.1 own\n") },
        { path: "/etc/systemd/system/dev-a\\x2db.mount", content: Buffer.alloc(0) },
        { path: "/opt/tool", content: Buffer.alloc(100_000, 7), mode: 0o4755 },
      ],
    });
    assert.equal(debugfs(path, "cat /upper/etc/hostname"), "web-1\n");
    assert.equal(debugfs(path, "cat /upper/etc/machine-id"), `${UUID.replaceAll("-", "")}\n`);
    assert.equal(debugfs(path, "cat /upper/etc/hosts"), "127.0.0.1 own\n");
    assert.equal(debugfs(path, "cat /upper/root/.ssh/authorized_keys"), content.toString());
    assert.match(debugfs(path, "ls /upper/etc/systemd/system"), /dev-a\\x5cx2db\.mount/);
    assert.equal(owner(path, "/upper/root/.ssh/authorized_keys"), "0600 0 0");
    assert.equal(owner(path, "/upper/opt/tool"), "04755 0 0");
    assert.equal(owner(path, "/upper/root"), "0700 0 0");
    assert.equal(owner(path, "/upper/etc"), "0755 0 0");
    assert.equal(owner(path, "/upper"), "0755 0 0");
    assert.equal(spawnSync("e2fsck", ["-fn", path]).status, 0);
  });
});

test("owners, directories and links are as given, a file before a link", async () => {
  await temporary(async (directory) => {
    const path = join(directory, "data.raw");
    const content = Buffer.from("key\n");
    await createUserData(realWorld(), path, {
      ...OPTIONS,
      files: [
        { path: "/home/ada/.ssh/authorized_keys", content, mode: 0o600, uid: 70_000, gid: 7 },
      ],
      directories: [{ path: "/home/ada", mode: 0o750, uid: 70_000, gid: 7 }],
      links: [
        { path: "/etc/localtime", target: "/usr/share/zoneinfo/UTC" },
        { path: "/etc/hostname", target: "x" },
      ],
    });
    assert.equal(owner(path, "/upper/home/ada/.ssh/authorized_keys"), "0600 70000 7");
    assert.equal(owner(path, "/upper/home/ada"), "0750 70000 7");
    assert.equal(owner(path, "/upper/home"), "0755 0 0");
    assert.match(
      debugfs(path, "stat /upper/etc/localtime"),
      /Fast link dest: "\/usr\/share\/zoneinfo\/UTC"/,
    );
    assert.equal(debugfs(path, "cat /upper/etc/hostname"), "web-1\n");
    assert.equal(spawnSync("e2fsck", ["-fn", path]).status, 0);
    const links = [{ path: "/etc/x", target: "a\nrm /upper" }];
    const made = createUserData(realWorld(), path, { ...OPTIONS, links });
    await assert.rejects(made, withCode("compose.instance-path-invalid"));
  });
});

const PATHS = [
  "etc/x",
  "/",
  "/etc/",
  "/etc//x",
  "/etc/../x",
  "/etc/./x",
  "/a b",
  '/a"b',
  "/a\nrm /upper",
  "/run/x",
  "/proc/x",
  `/${"x".repeat(256)}`,
  `/${"x/".repeat(600)}y`,
  "",
];

for (const path of PATHS) {
  test(`the instance path ${JSON.stringify(path.slice(0, 20))} is refused`, async () => {
    await temporary(async (directory) => {
      const files = [{ path, content: Buffer.alloc(0) }];
      const made = createUserData(realWorld(), join(directory, "x"), { ...OPTIONS, files });
      await assert.rejects(made, withCode("compose.instance-path-invalid"));
      assert.deepEqual(await readdir(directory), []);
    });
  });
}

test("a path cannot be a file and a directory", async () => {
  const files = ["/a", "/a/b"].map((path) => ({ path, content: Buffer.alloc(0) }));
  const made = createUserData(realWorld(), "/nonexistent/x", { ...OPTIONS, files });
  await assert.rejects(made, withCode("compose.instance-path-invalid"));
});

test("a UUID, a host name or a size that is none is refused", async () => {
  const faults: readonly (readonly [Partial<UserDataOptions>, string])[] = [
    [{ uuid: UUID.toUpperCase() }, "compose.uuid-invalid"],
    [{ uuid: "x" }, "compose.uuid-invalid"],
    [{ hostname: "a.b" }, "compose.hostname-invalid"],
    [{ hostname: "-a" }, "compose.hostname-invalid"],
    [{ hostname: "" }, "compose.hostname-invalid"],
    [{ sizeBytes: 2 ** 20 }, "compose.data-size-invalid"],
    [{ sizeBytes: 2 ** 28 + 1 }, "compose.data-size-invalid"],
    [{ sizeBytes: Number.NaN }, "compose.data-size-invalid"],
  ];
  for (const [change, code] of faults) {
    const made = createUserData(realWorld(), "/nonexistent/x", { ...OPTIONS, ...change });
    await assert.rejects(made, withCode(code), JSON.stringify(change));
  }
});

test("a tool that is missing leaves nothing behind", async () => {
  await temporary(async (directory) => {
    const world = realWorld();
    const run: typeof world.processes.run = (program, args, options) =>
      world.processes.run(program === "debugfs" ? "false" : program, args, options);
    const broken = { ...world, processes: { ...world.processes, run } };
    const made = createUserData(broken, join(directory, "data.raw"), OPTIONS);
    await assert.rejects(made, withCode("compose.user-data-failed"));
    assert.deepEqual(await readdir(directory), []);
  });
});

test("what a call that died has left is removed by the next", async () => {
  await temporary(async (directory) => {
    await mkdir(join(directory, "data.raw.new-1"));
    await writeFile(join(directory, "data.raw.new-1", "image"), "half");
    await createUserData(realWorld(), join(directory, "data.raw"), OPTIONS);
    assert.deepEqual(await readdir(directory), ["data.raw"]);
  });
});

test("the file system's UUID is a stable version 8 UUID", () => {
  assert.match(userDataUuid(UUID), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-/);
  assert.equal(userDataUuid(UUID), userDataUuid(UUID));
  assert.notEqual(userDataUuid(UUID), userDataUuid(UUID.replace("0b", "1b")));
});

test("a machine's command line names its user data block", () => {
  const disks = {
    appliance: "sha256:a",
    digest: "sha256:b",
    kernelPath: "/k",
    initramfsPath: "/i",
    commandLine: "quiet",
    layers: [],
  } as const;
  const { commandLine, digest } = withUserData(disks, UUID);
  assert.equal(commandLine, `quiet tessera.data=${userDataUuid(UUID).replaceAll("-", "")}`);
  assert.equal(digest, disks.digest);
});

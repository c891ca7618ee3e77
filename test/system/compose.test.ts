/** Composed machines boot: two programs stacked on one OS, over two boots, with sound tools. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import {
  cloudInitParts,
  compose,
  createUserData,
  guestFacts,
  parseAppliance,
  resolveAppliance,
  withUserData,
} from "#compose";
import type { InstanceFile } from "#compose";
import { createQemu, type MachineSpecification, type RunningMachine } from "#hypervisor";
import { realWorld } from "#system";
import { testComponents } from "../support/components.ts";

const APPLIANCE = resolve(import.meta.dirname, "../../examples/appliances/web-database.yaml");
const READY_MS = 300_000;
const STOP_MS = 120_000;
const REPORT = "/var/log/check";
const RAN = "/var/log/ran";

/** Applied without cloud-init, which these components do not have. */
const CLOUD_INIT = {
  userData: `#cloud-config
hostname: web-2
users:
  - {name: ada, groups: [www-data, team], ssh_authorized_keys: [ssh-ed25519 AAAA ada]}
write_files:
  - {path: /srv/note, content: hello, owner: 'ada:team', permissions: '0640'}
runcmd:
  - echo "ran $(hostname)" >>${RAN}
`,
  networkConfig: "{version: 2, ethernets: {lan: {match: {name: 'en*'}, dhcp4: true, mtu: 1400}}}",
};

const world = realWorld();
const hypervisor = createQemu(world, { accelerator: "tcg" });

const textFile = (path: string, text: string): InstanceFile => ({
  path,
  content: Buffer.from(text),
});

/** Asks the package tools, the accounts and the mounts once per boot, before the ready signal. */
const CHECK_FILES = [
  textFile(
    "/etc/systemd/system/check.service",
    `[Unit]
Description=Check the composed system
After=tessera-first-boot.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c '{ dpkg --audit; echo "audit $?"; apt-get check; echo "check $?"; dpkg-query -W nginx redis-server; getent passwd redis www-data; stat -c "%%a %%U:%%G %%n" /etc/shadow /etc/passwd /root; id ada; stat -c "%%a %%U:%%G %%n" /home/ada/.ssh/authorized_keys /srv/note; cat ${RAN}; ip -o link | grep -c "mtu 1400"; hostname; systemctl --failed --no-legend --plain; echo "end"; } >${REPORT} 2>&1'
`,
  ),
  textFile(
    "/etc/systemd/system/tessera-ready.service.d/check.conf",
    "[Unit]\nWants=check.service\nAfter=check.service\n",
  ),
];

async function machineIn(directory: string): Promise<MachineSpecification> {
  const { store } = await testComponents(["kernel-cloud", "debian-12", "nginx", "redis"]);
  const recipe = parseAppliance(await readFile(APPLIANCE, "utf8"), APPLIANCE);
  const appliance = await resolveAppliance(recipe, store);
  const uuid = randomUUID();
  const disks = await compose(world, store, appliance, join(directory, "composed"));
  const dataPath = join(directory, "data.raw");
  const { cpus, memoryBytes, dataBytes: sizeBytes, ports } = appliance.resources;
  const identity = { uuid, hostname: "web-1" };
  const facts = await guestFacts(store, appliance);
  const parts = await cloudInitParts(CLOUD_INIT, facts, identity);
  const files = [...parts.files, ...CHECK_FILES];
  await createUserData(world, dataPath, { ...identity, sizeBytes, ...parts, files });
  await mkdir(join(directory, "machine"));
  return {
    uuid,
    name: "web-database",
    cpus,
    memoryBytes,
    disks: withUserData(disks, uuid),
    dataPath,
    ports,
    directory: join(directory, "machine"),
  };
}

/** Works with the machine while it runs; it never survives the test. */
async function running<T>(
  specification: MachineSpecification,
  work: (machine: RunningMachine) => Promise<T>,
): Promise<T> {
  const machine = await hypervisor.start(specification);
  try {
    return await work(machine);
  } finally {
    await machine.stop(0);
    await machine.detach();
  }
}

/** One command to redis in its inline form, and the first line of the answer. */
async function redis(port: number, command: string): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.setEncoding("utf8").setTimeout(30_000, () => socket.destroy(new Error("no answer")));
  try {
    socket.write(`${command}\r\n`);
    let text = "";
    for await (const piece of socket as AsyncIterable<string>) {
      text += piece;
      const lines = text.split("\r\n");
      const isWhole = text.startsWith("$") ? lines.length > 2 : lines.length > 1;
      if (isWhole) return (text.startsWith("$") ? lines[1] : lines[0]) ?? "";
    }
    throw new Error(`redis ended the connection: ${text}`);
  } finally {
    socket.destroy();
  }
}

function debugfs(path: string, request: string): string {
  const { stdout, status } = spawnSync("debugfs", ["-R", request, path], { encoding: "utf8" });
  assert.equal(status, 0);
  return stdout;
}

function assertClean(dataPath: string): void {
  const { stdout } = spawnSync("dumpe2fs", ["-h", dataPath], { encoding: "utf8" });
  assert.match(stdout, /Filesystem state: +clean\n/);
  assert.doesNotMatch(stdout, /needs_recovery/);
  const check = spawnSync("e2fsck", ["-fn", dataPath], { encoding: "utf8" });
  assert.equal(check.status, 0, check.stdout);
}

function assertReport(dataPath: string): void {
  const report = debugfs(dataPath, `cat /upper${REPORT}`);
  assert.match(report, /^audit 0$/m, report);
  assert.match(report, /^check 0$/m, report);
  assert.match(report, /^nginx\t1\./m);
  assert.match(report, /^redis-server\t5:/m);
  assert.match(report, /^redis:x:521:521:/m);
  assert.match(report, /^www-data:x:33:33:/m);
  assert.match(report, /^640 root:shadow \/etc\/shadow$/m);
  assert.match(report, /^644 root:root \/etc\/passwd$/m);
  assert.match(report, /^700 root:root \/root$/m);
  assert.match(
    report,
    /^uid=1000\(ada\) gid=1000\(ada\) groups=1000\(ada\),33\(www-data\),1001\(team\)$/m,
  );
  assert.match(
    report,
    /^600 ada:ada \/home\/ada\/\.ssh\/authorized_keys\n640 ada:team \/srv\/note$/m,
  );
  assert.match(report, /^ran web-2\n1$/m, report);
  assert.match(report, /^web-2\nend$/m, `units have failed: ${report}`);
}

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-boot-"));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("a composed machine serves, keeps its data over a stop, and stays sound", async (context) => {
  await withDirectory(async (directory) => {
    const specification = await machineIn(directory);
    const begin = performance.now();
    const elapsed = (): string => `${((performance.now() - begin) / 1000).toFixed(1)} s`;
    await running(specification, async (machine) => {
      await machine.ready(READY_MS);
      context.diagnostic(`first boot: ready after ${elapsed()}`);
      const { http, redis: port } = machine.hostPorts;
      const answer = await fetch(`http://127.0.0.1:${http}/`);
      assert.equal(answer.status, 200);
      assert.match(await answer.text(), /Welcome to nginx/);
      assert.equal(await redis(port ?? 0, "SET colour green"), "+OK");
      assert.equal(await machine.stop(STOP_MS), "graceful");
    });
    context.diagnostic(`stopped after ${elapsed()}`);
    assertClean(specification.dataPath);
    assertReport(specification.dataPath);
    await running(specification, async (machine) => {
      await machine.ready(READY_MS);
      context.diagnostic(`second boot: ready after ${elapsed()}`);
      assert.equal(await redis(machine.hostPorts["redis"] ?? 0, "GET colour"), "green");
      assert.equal(await machine.stop(STOP_MS), "graceful");
    });
    assertClean(specification.dataPath);
    assert.equal(debugfs(specification.dataPath, `cat /upper${RAN}`), "ran web-2\n");
  });
});

test("a machine without its user data block says so and powers off", async () => {
  await withDirectory(async (directory) => {
    const specification = await machineIn(directory);
    const { commandLine } = specification.disks;
    const other = commandLine.replace(/tessera\.data=\w+/, `tessera.data=${"0".repeat(32)}`);
    const wrong = { ...specification, disks: { ...specification.disks, commandLine: other } };
    await running(wrong, async (machine) => {
      await machine.exited;
      const console = await readFile(machine.consolePath, "utf8");
      assert.match(
        console,
        /tessera: cannot start this machine: no disk holds user data block 0{32}/,
      );
    });
    assertClean(specification.dataPath);
  });
});

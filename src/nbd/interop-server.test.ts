/** Our server against the clients of others. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { test } from "node:test";
import { createFileDevice, createMemoryDevice, openFileDevice, type BlockDevice } from "#block";
import { contentOf, folder, pattern, run, serve, world } from "./nbd.suite.ts";

const fresh = folder();
const MIB = 2 ** 20;
const SIZE_BYTES = 8 * MIB;
/** 64 KiB of data, 2 MiB into the disk; the rest is a hole. */
const DATA = { offset: 2 * MIB, length: 65_536 };

async function sparseDevice(path = fresh("disk")): Promise<BlockDevice> {
  const device = await createFileDevice(world, path, SIZE_BYTES);
  await device.write(pattern(DATA.length), DATA.offset);
  return device;
}

const uriOf = (path: string, name = ""): string => `nbd+unix:///${name}?socket=${path}`;

test("nbdinfo lists exports, what they can do, and their holes", async () => {
  const device = await sparseDevice();
  const exports = [
    { name: "disk", device, description: "a disk" },
    { name: "still", device, readOnly: true, multipleConnections: false },
  ];
  await using served = await serve(fresh("info"), exports);
  const list = await run("nbdinfo", ["--list", "--json", uriOf(served.path)]);
  const { exports: found } = JSON.parse(list.stdout) as { exports: Record<string, unknown>[] };
  const [disk, still] = found;
  assert.equal(disk?.["export-name"], "disk");
  assert.equal(disk["description"], "a disk");
  assert.equal(disk["export-size"], SIZE_BYTES);
  assert.deepEqual(disk["contexts"], ["base:allocation"]);
  const abilities = ["can_df", "can_fua", "can_flush", "can_trim", "can_zero", "can_fast_zero"];
  for (const ability of [...abilities, "can_cache", "can_multi_conn"]) {
    assert.equal(disk[ability], true, ability);
  }
  for (const ability of ["can_trim", "can_zero", "can_multi_conn"]) {
    assert.equal(still?.[ability], false, ability);
  }
  assert.equal(still?.["is_read_only"], true);
  const map = await run("nbdinfo", ["--map", "--json", uriOf(served.path, "disk")]);
  const extents = (
    JSON.parse(map.stdout) as { offset: number; length: number; type: number }[]
  ).map(({ offset, length, type }) => [offset, length, type]);
  const end = DATA.offset + DATA.length;
  assert.deepEqual(extents, [
    [0, DATA.offset, 3],
    [DATA.offset, DATA.length, 0],
    [end, SIZE_BYTES - end, 3],
  ]);
  await device.close();
});

test("nbdcopy takes a disk out and puts one in; what is a hole stays one", async () => {
  const device = await sparseDevice();
  const target = await createFileDevice(world, fresh("target"), SIZE_BYTES);
  const exports = [
    { name: "from", device },
    { name: "to", device: target },
  ];
  await using served = await serve(fresh("copy"), exports);
  const copy = fresh("copied");
  await run("nbdcopy", [uriOf(served.path, "from"), copy]);
  assert.ok((await readFile(copy)).equals(await contentOf(device)));
  assert.ok((await stat(copy)).blocks * 512 < MIB);
  await run("nbdcopy", ["--flush", copy, uriOf(served.path, "to")]);
  assert.ok((await contentOf(target)).equals(await contentOf(device)));
  assert.deepEqual(await target.allocated(), [DATA]);
  await run("nbdcopy", ["--synchronous", uriOf(served.path, "from"), uriOf(served.path, "to")]);
  assert.ok((await contentOf(target)).equals(await contentOf(device)));
  await device.close();
  await target.close();
});

test("QEMU converts from us and to us, and both are the same to it", async () => {
  const device = await sparseDevice();
  const target = createMemoryDevice(SIZE_BYTES);
  await target.write(pattern(SIZE_BYTES, 5), 0);
  const exports = [
    { name: "from", device },
    { name: "to", device: target },
  ];
  await using served = await serve(fresh("convert"), exports);
  const [from, to] = [uriOf(served.path, "from"), uriOf(served.path, "to")];
  const image = fresh("image");
  await run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", from, image]);
  await run("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", image, from]);
  assert.ok((await stat(image)).size < MIB);
  await run("qemu-img", ["convert", "-n", "-f", "qcow2", "-O", "raw", image, to]);
  assert.ok((await contentOf(target)).equals(await contentOf(device)));
  const { stdout } = await run("qemu-img", ["map", "--output=json", "-f", "raw", from]);
  const data = (JSON.parse(stdout) as { start: number; length: number; data: boolean }[])
    .filter((row) => row.data)
    .map(({ start, length }) => ({ offset: start, length }));
  assert.deepEqual(data, [DATA]);
  await device.close();
});

test("qemu-io writes, zeroes, discards and flushes, and reads what it should", async () => {
  const path = fresh("io-disk");
  const device = await sparseDevice(path);
  await using served = await serve(fresh("io"), [{ name: "", device }]);
  const commands = [
    "write -P 0xab 0 4M",
    "write -f -P 0xcd 1M 64k",
    "write -z 2M 1M",
    "write -z -u 3M 512k",
    "discard 1536k 512k",
    "aio_write -P 0x11 5M 1M",
    "aio_read -P 0xab 512 1000k",
    "aio_flush",
    "flush",
    "read -P 0xab 0 1M",
    "read -P 0xcd 1M 64k",
    "read -P 0 1536k 512k",
    "read -P 0 2M 1536k",
    "read -P 0x11 5M 1M",
  ];
  const args = commands.flatMap((command) => ["-c", command]);
  const options = ["-f", "raw", "-d", "unmap", uriOf(served.path)];
  const { stdout } = await run("qemu-io", [...args, ...options]);
  assert.doesNotMatch(stdout, /fail|error/i);
  const content = await contentOf(device);
  assert.deepEqual([content[0], content[MIB], content[5 * MIB]], [0xab, 0xcd, 0x11]);
  assert.ok(content.subarray(1.5 * MIB, 3.5 * MIB).equals(Buffer.alloc(2 * MIB)));
  assert.ok((await stat(path)).blocks * 512 <= 4 * MIB, "what was discarded is a hole");
  await device.close();
});

test("qemu-nbd lists our exports", async () => {
  const device = createMemoryDevice(SIZE_BYTES);
  await using served = await serve(fresh("list"), [{ name: "disk", device }]);
  const { stdout } = await run("qemu-nbd", ["--list", "--socket", served.path]);
  assert.match(stdout, /exports available: 1\n export: 'disk'\n\s+size:\s+8388608/);
  assert.match(stdout, /base:allocation/);
});

test("fio writes by its nbd engine at random and finds what it wrote", async () => {
  const device = await createFileDevice(world, fresh("fio-disk"), SIZE_BYTES);
  await using served = await serve(fresh("fio"), [{ name: "", device }]);
  const options = {
    name: "t",
    ioengine: "nbd",
    uri: uriOf(served.path),
    rw: "randwrite",
    bsrange: "512-128k",
    iodepth: "16",
    size: String(SIZE_BYTES),
    verify: "crc32c",
    "output-format": "json",
  };
  const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const { stdout } = await run("fio", args, { cwd: dirname(served.path) });
  const report = JSON.parse(stdout.slice(stdout.indexOf("{"))) as {
    jobs: { error: number; read: { io_bytes: number }; write: { io_bytes: number } }[];
  };
  const [job] = report.jobs;
  assert.equal(job?.error, 0);
  assert.equal(job.write.io_bytes, SIZE_BYTES);
  assert.ok(job.read.io_bytes >= SIZE_BYTES);
  await device.close();
});

test("a disk that ends within a sector is whole to the last byte", async () => {
  const path = fresh("odd");
  await writeFile(path, pattern(1_000_001));
  const device = await openFileDevice(world, path, { readOnly: true });
  await using served = await serve(fresh("odd"), [{ name: "", device, readOnly: true }]);
  const copy = fresh("odd-copy");
  await run("nbdcopy", [uriOf(served.path), copy]);
  assert.ok((await readFile(copy)).equals(pattern(1_000_001)));
  await device.close();
});

/** Gives a storage daemon commands on its standard input, and waits for words of its answers. */
async function converse(
  args: readonly string[],
  steps: readonly (readonly [command: object, answer: string])[],
): Promise<void> {
  const monitor = ["--chardev", "stdio,id=m", "--monitor", "chardev=m"];
  const child = spawn("qemu-storage-daemon", [...args, ...monitor], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  try {
    for (const [command, answer] of steps) {
      child.stdin.write(`${JSON.stringify(command)}\n`);
      while (!said.includes(answer)) {
        assert.doesNotMatch(said, /"error"/);
        await once(child.stdout, "data");
      }
    }
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

test("QEMU mirrors a disk to us, and a thin one arrives thin on a target that was full", async () => {
  const [source, path] = [fresh("mirrored"), fresh("mirror-target")];
  await (await sparseDevice(source)).close();
  const target = await createFileDevice(world, path, SIZE_BYTES);
  await target.write(pattern(SIZE_BYTES, 9), 0);
  await using served = await serve(fresh("mirror"), [{ name: "disk", device: target }]);
  const from = `driver=file,node-name=from,filename=${source}`;
  const server = `server.type=unix,server.path=${served.path},export=disk`;
  const to = `driver=nbd,node-name=to,${server},discard=unmap`;
  const mirror = { device: "from", target: "to", sync: "full", "job-id": "j" };
  await converse(
    ["--blockdev", from, "--blockdev", to],
    [
      [{ execute: "qmp_capabilities" }, '"return"'],
      [{ execute: "blockdev-mirror", arguments: mirror }, "BLOCK_JOB_READY"],
      [{ execute: "block-job-complete", arguments: { device: "j" } }, "BLOCK_JOB_COMPLETED"],
    ],
  );
  assert.ok((await contentOf(target)).equals(await readFile(source)));
  assert.ok((await stat(path)).blocks * 512 <= MIB);
  await target.close();
});

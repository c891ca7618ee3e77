/** Our client against the servers of others. */
import assert from "node:assert/strict";
import { readFile, truncate, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { deviceSuite } from "../block/device.suite.ts";
import { connectNbd, type NbdDevice } from "./index.ts";
import {
  closingAlso,
  code,
  contentOf,
  folder,
  pattern,
  run,
  startServer,
  world,
} from "./nbd.suite.ts";

const fresh = folder();
const MIB = 2 ** 20;

function open(path: string, exportName = "", contexts: readonly string[] = []): Promise<NbdDevice> {
  return connectNbd(world, { address: { path }, exportName, contexts });
}

function nbdkit(path: string, ...args: readonly string[]): Promise<AsyncDisposable> {
  return startServer("nbdkit", ["--foreground", "--unix", path, ...args], path);
}

deviceSuite("nbdkit", async (sizeBytes) => {
  const path = fresh("kit");
  const server = await nbdkit(path, "memory", String(sizeBytes));
  return closingAlso(await open(path), async () => {
    await server[Symbol.asyncDispose]();
  });
});

test("nbdkit's holes are told, and errors have names", async () => {
  const [disk, path] = [fresh("disk"), fresh("kit")];
  const errors = ["error=ENOSPC", "error-pwrite-rate=100%"];
  await writeFile(disk, Buffer.alloc(0));
  await truncate(disk, 4 * MIB);
  await using _ = await nbdkit(path, "--filter=error", "file", disk, ...errors);
  const client = await open(path, "any", ["qemu:dirty-bitmap:none"]);
  assert.deepEqual(client.contexts, ["base:allocation"]);
  assert.deepEqual(await client.allocated(), []);
  await assert.rejects(client.write(pattern(10), 0), code("nbd.no-space"));
  await client.close();
});

const VARIANTS: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["without structured replies", ["--no-sr"]],
  ["of plain newstyle", ["--mask-handshake=0"]],
  ["that keeps zeroes in its handshake", ["--mask-handshake=1", "--no-sr"]],
];

for (const [name, args] of VARIANTS) {
  test(`a server ${name} is read and written`, async () => {
    const path = fresh("variant");
    await using _ = await nbdkit(path, ...args, "memory", String(3 * MIB + 5));
    const client = await open(path);
    await client.write(pattern(2 * MIB), 77);
    assert.ok((await contentOf(client)).subarray(77, 77 + 2 * MIB).equals(pattern(2 * MIB)));
    await client.flush();
    await client.close();
  });
}

test("a server of large blocks is read and written at any byte", async () => {
  const path = fresh("blocks");
  const filter = ["--filter=blocksize-policy", "memory", String(MIB)];
  const policy = ["blocksize-minimum=4096", "blocksize-error-policy=error"];
  const limit = ["blocksize-preferred=4096", "blocksize-maximum=65536"];
  await using _ = await nbdkit(path, ...filter, ...policy, ...limit);
  const client = await open(path);
  const model = Buffer.alloc(MIB);
  const writes = [
    [5, 10],
    [4096, 4096],
    [8000, 300_001],
    [15, 20],
    [MIB - 1, 1],
  ] as const;
  await Promise.all(
    writes.map(async ([offset, length]) => {
      pattern(length).copy(model, offset);
      await client.write(pattern(length), offset);
    }),
  );
  await client.zero({ offset: 9000, length: 100_000 });
  model.fill(0, 9000, 109_000);
  await client.trim({ offset: 9001, length: 5 });
  assert.ok((await contentOf(client)).equals(model));
  const five = Buffer.alloc(5);
  await client.read(five, 4093);
  assert.ok(five.equals(model.subarray(4093, 4098)));
  await client.close();
});

test("qemu-nbd tells a dirty bitmap of a qcow2 image", async () => {
  const [image, path] = [fresh("image"), fresh("qemu-nbd")];
  await run("qemu-img", ["create", "-q", "-f", "qcow2", image, "8M"]);
  const write = (what: string) => run("qemu-io", ["-f", "qcow2", "-c", what, image]);
  await write("write -P 1 0 1M");
  await run("qemu-img", ["bitmap", "--add", "-g", "65536", image, "b"]);
  await write("write -P 2 512k 64k");
  await write("write -P 3 4M 128k");
  const args = ["--persistent", "--read-only", "--bitmap=b", "--format=qcow2"];
  await using _ = await startServer("qemu-nbd", [...args, "--socket", path, image], path);
  const context = "qemu:dirty-bitmap:b";
  const client = await open(path, "", [context]);
  assert.ok(client.readOnly);
  const dirty = await client.status({ offset: 0, length: client.sizeBytes }, context);
  assert.deepEqual(
    dirty.filter(({ flags }) => flags === 1).map(({ offset, length }) => [offset, length]),
    [
      [512 * 1024, 65_536],
      [4 * MIB, 131_072],
    ],
  );
  assert.deepEqual(await client.allocated(), [
    { offset: 0, length: MIB },
    { offset: 4 * MIB, length: 131_072 },
  ]);
  const content = Buffer.alloc(65_536);
  await client.read(content, 512 * 1024);
  assert.ok(content.equals(Buffer.alloc(65_536, 2)));
  await client.close();
});

test("qemu-storage-daemon is read and written", async () => {
  const [disk, path] = [fresh("qsd-disk"), fresh("qsd")];
  await writeFile(disk, pattern(4 * MIB));
  const node = `driver=file,node-name=disk,filename=${disk},discard=unmap`;
  const server = `addr.type=unix,addr.path=${path}`;
  const exported = "type=nbd,id=e,node-name=disk,name=disk,writable=on";
  const args = ["--blockdev", node, "--nbd-server", server, "--export", exported];
  await using _ = await startServer("qemu-storage-daemon", args, path);
  await assert.rejects(open(path, "other"), code("nbd.export-unknown"));
  const client = await open(path, "disk");
  const model = pattern(4 * MIB);
  await client.zero({ offset: MIB, length: MIB });
  model.fill(0, MIB, 2 * MIB);
  await client.write(pattern(100_000, 3), 3 * MIB);
  pattern(100_000, 3).copy(model, 3 * MIB);
  await client.flush();
  assert.ok((await contentOf(client)).equals(model));
  assert.ok((await readFile(disk)).equals(model));
  await client.close();
});

/** Our client over our server is a block device like any other. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createFileDevice, createMemoryDevice, faultyDevice, type BlockDevice } from "#block";
import { TesseraError } from "#core";
import { deviceSuite } from "../block/device.suite.ts";
import { connectNbd } from "./index.ts";
import { closingAlso, code, contentOf, folder, pattern, serve, world } from "./nbd.suite.ts";

const fresh = folder();

/** A connected client that takes its server and the device behind it along when it is closed. */
async function connected(device: BlockDevice): Promise<BlockDevice> {
  const served = await serve(fresh("suite"), [{ name: "", device }]);
  const client = await served.connect();
  return closingAlso(client, async () => {
    await served.server.close();
    await device.close();
  });
}

/** Without what lets the server answer at once. */
function far(inner: BlockDevice): BlockDevice {
  return faultyDevice(inner, []);
}

deviceSuite("NBD over memory", (sizeBytes) => connected(createMemoryDevice(sizeBytes)));
deviceSuite("NBD over what is not near", (sizeBytes) =>
  connected(far(createMemoryDevice(sizeBytes))),
);
deviceSuite("NBD over a file", async (sizeBytes) =>
  connected(await createFileDevice(world, fresh("disk"), sizeBytes)),
);

test("requests longer than a piece come back whole, by several connections", async () => {
  const sizeBytes = 9 * 2 ** 20 + 77;
  for (const device of [createMemoryDevice(sizeBytes), far(createMemoryDevice(sizeBytes))]) {
    await using served = await serve(fresh("long"), [{ name: "a", device }]);
    const [one, other] = [await served.connect("a"), await served.connect("a")];
    assert.equal(served.server.clients("a"), 2);
    const content = pattern(sizeBytes);
    await one.write(content, 0);
    assert.ok((await contentOf(other)).equals(content));
    await other.zero({ offset: 100_001, length: 5 * 2 ** 20 });
    content.fill(0, 100_001, 100_001 + 5 * 2 ** 20);
    await one.trim({ offset: 0, length: 0 });
    assert.ok((await contentOf(one)).equals(content));
    await one.close();
    await other.close();
  }
});

test("exports have names, and one may be read-only", async () => {
  const device = createMemoryDevice(4096);
  const exports = [
    { name: "disk", device },
    { name: "still", device, readOnly: true },
  ];
  await using served = await serve(fresh("names"), exports);
  await assert.rejects(served.connect("other"), code("nbd.export-unknown"));
  const [disk, still] = [await served.connect("disk"), await served.connect("still")];
  assert.ok(still.readOnly && !disk.readOnly);
  await disk.write(Buffer.from("abc"), 5);
  const three = Buffer.alloc(3);
  await still.read(three, 5);
  assert.equal(three.toString(), "abc");
  await assert.rejects(still.write(three, 0), code("block.read-only"));
  await disk.close();
  await still.close();
});

test("the device's errors reach the client by their kind, and it goes on", async () => {
  const full = new TesseraError("environment", "system.disk-full", "no room at all");
  const inner = createMemoryDevice(2 ** 20);
  const device = faultyDevice(inner, [
    { operation: "write", nth: 1, error: full },
    { operation: "read", range: { offset: 600_000, length: 1 } },
    { operation: "flush", nth: 1 },
  ]);
  await using served = await serve(fresh("errors"), [{ name: "", device }]);
  const client = await served.connect();
  await assert.rejects(client.write(pattern(10), 0), (error) => {
    return code("nbd.no-space")(error) && /no room at all/.test((error as Error).message);
  });
  await assert.rejects(client.read(Buffer.alloc(2 ** 20), 0), code("nbd.input-output"));
  await assert.rejects(client.flush(), code("nbd.input-output"));
  await client.flush();
  await client.write(pattern(10), 0);
  await client.close();
});

test("status tells holes of any range; other contexts are not there", async () => {
  const device = createMemoryDevice(2 ** 20);
  await device.write(pattern(65_536), 131_072);
  await using served = await serve(fresh("status"), [{ name: "", device }]);
  const client = await served.connect("", ["qemu:dirty-bitmap:b"]);
  assert.deepEqual(client.contexts, ["base:allocation"]);
  assert.deepEqual(await client.status({ offset: 1000, length: 200_000 }, "base:allocation"), [
    { offset: 1000, length: 130_072, flags: 3 },
    { offset: 131_072, length: 65_536, flags: 0 },
    { offset: 196_608, length: 4392, flags: 3 },
  ]);
  assert.deepEqual(await client.status({ offset: 7, length: 0 }, "base:allocation"), []);
  const bitmap = client.status({ offset: 0, length: 1 }, "qemu:dirty-bitmap:b");
  await assert.rejects(bitmap, code("nbd.context-missing"));
  await client.close();
});

test("a server that closes answers what it has in hand and then is gone, by name", async () => {
  const inner = createMemoryDevice(2 ** 20);
  const begun = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const device = {
    ...far(inner),
    async read(target: Uint8Array, offset: number) {
      begun.resolve();
      await gate.promise;
      await inner.read(target, offset);
    },
  };
  const served = await serve(fresh("close"), [{ name: "", device }]);
  const client = await served.connect();
  await inner.write(pattern(4096), 0);
  const target = Buffer.alloc(4096);
  const read = client.read(target, 0);
  await begun.promise;
  const closing = served.server.close();
  gate.resolve();
  await read;
  assert.ok(target.equals(pattern(4096)));
  await closing;
  await assert.rejects(client.read(target, 0), code("nbd.link-lost"));
  assert.ok(client.signal.aborted);
  await client.close();
  const address = { path: served.path };
  const again = connectNbd(world, { address, exportName: "" });
  await assert.rejects(again, code("nbd.unreachable"));
});

test("a flush covers what was written before it was asked for, and is shared", async () => {
  const inner = createMemoryDevice(4096);
  let flushes = 0;
  const device = {
    ...far(inner),
    async flush() {
      flushes += 1;
      await world.clock.sleep(5);
    },
  };
  await using served = await serve(fresh("flush"), [{ name: "", device }]);
  const client = await served.connect();
  await Promise.all(Array.from({ length: 20 }, () => client.flush()));
  assert.ok(flushes >= 1 && flushes < 20, `${flushes}`);
  await client.close();
});

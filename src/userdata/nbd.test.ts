/** The disk behind an NBD server, as a hypervisor sees it. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BLOCK_BYTES, createFileDevice } from "#block";
import { connectNbd, serveNbd } from "#nbd";
import { realWorld } from "#system";
import { Source, blockRange } from "./fixture.suite.ts";
import { openOnDemandDevice } from "./on-demand.ts";

test("a disk that is filled on demand is read, written and discarded over NBD", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tessera-userdata-"));
  const world = realWorld();
  const content = Buffer.alloc(48 * BLOCK_BYTES);
  for (const block of [0, 1, 5, 6, 7, 20, 40, 47]) {
    randomBytes(BLOCK_BYTES).copy(content, block * BLOCK_BYTES);
  }
  const source = new Source(content);
  const path = join(folder, "disk");
  const local = await createFileDevice(world, path, content.length);
  const mapPath = join(folder, "disk.stale");
  const device = await openOnDemandDevice(world, { local, mapPath, remote: source });
  const address = { path: join(folder, "nbd") };
  const server = await serveNbd(world, { address, exports: [{ name: "", device }] });
  try {
    await device.arm({ stale: [blockRange(0, 48)], zeroes: [blockRange(21, 19)] });
    const client = await connectNbd(world, { address, exportName: "" });
    const expected = Buffer.from(content);
    await client.write(Buffer.alloc(8192, 7), 5 * BLOCK_BYTES + 4096);
    expected.fill(7, 5 * BLOCK_BYTES + 4096, 5 * BLOCK_BYTES + 12_288);
    await client.zero(blockRange(6, 1));
    expected.fill(0, 6 * BLOCK_BYTES, 7 * BLOCK_BYTES);
    await client.flush();
    const reference = join(folder, "reference");
    await writeFile(reference, expected);
    device.startCopy();
    const args = ["compare", "-f", "raw", "-F", "raw", reference, server.uri("")];
    const { exitCode, errorText } = await world.processes.run("qemu-img", args);
    assert.equal(exitCode, 0, errorText);
    await device.complete;
    await device.finish();
    await client.close();
    assert.ok((await readFile(path)).equals(expected));
    const fetched = source.bytes("demanded") + source.bytes("background");
    assert.ok(fetched <= 28 * BLOCK_BYTES, "what is known to be zero is not asked for");
  } finally {
    await server.close();
    await device.close();
    await rm(folder, { recursive: true, force: true });
  }
});

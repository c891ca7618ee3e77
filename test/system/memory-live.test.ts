/** Guests arrive alive when their memory travels through the coder, in pre-copy and post-copy. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import {
  cutLink,
  endQemu,
  link,
  startQemu,
  until,
  type MemoryLink,
  type TestQemu,
} from "../support/memory-link.ts";

const READY = /tiny guest is up/;

async function consoleSays(qemu: TestQemu, pattern: RegExp): Promise<void> {
  await until(`the console says ${pattern.source}`, async () => {
    return pattern.test(await readFile(qemu.console, "utf8")) ? true : undefined;
  });
}

async function statusOf({ qmp }: TestQemu): Promise<string | undefined> {
  return ((await qmp.execute("query-migrate")) as { status?: string }).status;
}

const capabilities = (names: readonly string[]) => ({
  capabilities: names.map((capability) => ({ capability, state: true })),
});

async function scene<Link extends MemoryLink>(
  context: TestContext,
  names: readonly string[],
  {
    more = [],
    between,
  }: { more?: readonly string[]; between: (...ends: [string, string]) => Promise<Link> },
) {
  const directory = await mkdtemp(join(tmpdir(), "memory-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const [from, to] = [join(directory, "from"), join(directory, "to")];
  const source = await startQemu(directory, "source");
  context.after(() => endQemu(source));
  const destination = await startQemu(directory, "destination", ["-incoming", "defer", ...more]);
  context.after(() => endQemu(destination));
  await consoleSays(source, READY);
  for (const { qmp } of [source, destination]) {
    await qmp.execute("migrate-set-capabilities", capabilities(names));
  }
  await destination.qmp.execute("migrate-incoming", { uri: `unix:${to}` });
  const coder = await between(from, to);
  context.after(() => coder.close());
  return { directory, source, destination, coder, uri: `unix:${from}` };
}

const MEBIBYTE = 2 ** 20;

/** What both have above the first mebibyte, where firmware and devices are, is the same. */
async function assertSameMemory(directory: string, qemus: readonly TestQemu[]): Promise<void> {
  const [one, other] = await Promise.all(
    qemus.map(async ({ qmp }, index) => {
      const filename = join(directory, `ram-${index}`);
      await qmp.execute("pmemsave", { val: MEBIBYTE, size: 127 * MEBIBYTE, filename });
      return await readFile(filename);
    }),
  );
  assert.equal(one?.length, 127 * MEBIBYTE);
  assert.ok(one !== undefined && other?.equals(one) === true, "the memory is the same");
}

async function assertRuns(destination: TestQemu): Promise<void> {
  await until("the guest runs at the destination", async () => {
    const { status } = (await destination.qmp.execute("query-status")) as { status: string };
    return status === "running" ? true : undefined;
  });
}

test("pre-copy through the coder: the memory that arrives is the source's", async (context) => {
  const { directory, source, destination, coder, uri } = await scene(context, ["return-path"], {
    more: ["-S"],
    between: link,
  });
  await source.qmp.execute("migrate", { uri });
  await until("the migration ends", async () => {
    const status = await statusOf(source);
    assert.notEqual(status, "failed");
    return status === "completed" ? true : undefined;
  });
  await assertSameMemory(directory, [source, destination]);
  await destination.qmp.execute("cont");
  await assertRuns(destination);
  const figures = await coder.done;
  context.diagnostic(JSON.stringify(figures));
  assert.ok(figures.encodedBytes < figures.rawBytes / 2);
});

/** Post-copy, begun as soon as pre-copy has; returns once the guest runs at the destination. */
async function postcopy<Link extends MemoryLink>(
  context: TestContext,
  between: (...ends: [string, string]) => Promise<Link>,
): Promise<Link> {
  const names = ["return-path", "postcopy-ram"];
  const { source, destination, coder, uri } = await scene(context, names, { between });
  await source.qmp.execute("migrate-set-parameters", { "max-bandwidth": 20_000_000 });
  await source.qmp.execute("migrate", { uri });
  await until("pre-copy has begun", async () => {
    return (await statusOf(source)) === "active" ? true : undefined;
  });
  await source.qmp.execute("migrate-start-postcopy");
  await until("the migration ends", async () => {
    const status = await statusOf(source);
    assert.ok(!["failed", "postcopy-paused"].includes(status ?? ""), status);
    return status === "completed" ? true : undefined;
  });
  await assertRuns(destination);
  const figures = await coder.done;
  context.diagnostic(JSON.stringify(figures));
  assert.ok(figures.encodedBytes < figures.rawBytes / 2);
  return coder;
}

test("post-copy through the coder", async (context) => {
  await postcopy(context, link);
});

test("post-copy over a link that is cut again and again: no hypervisor sees it", async (context) => {
  const over = await postcopy(context, cutLink);
  const cuts = over.cuts();
  context.diagnostic(`${cuts} cuts`);
  assert.ok(cuts > 3);
});

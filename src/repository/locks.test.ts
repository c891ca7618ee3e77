import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import type { World } from "#core";
import { Host, temporary, withCode } from "./fixtures.suite.ts";
import { directoriesOf, layoutOf, type Layout } from "./layout.ts";
import { Locks } from "./locks.ts";

/** The locks of one process. */
function locksOf(world: World, layout: Layout): Locks {
  const identity = world.processes.identify(process.pid) ?? assert.fail();
  return new Locks(world, layout, identity, `process-${identity.startTicks}`);
}

async function withLayout(work: (host: Host, layout: Layout) => Promise<void>): Promise<void> {
  await temporary(async (directory) => {
    await using host = new Host();
    const layout = layoutOf(directory);
    for (const path of directoriesOf(layout)) await host.world().files.makeDirectory(path);
    await work(host, layout);
  });
}

test("a lock is held by one until it is released", () =>
  withLayout(async (host, layout) => {
    const [one, two] = [locksOf(host.world(), layout), locksOf(host.world(), layout)];
    const lock = await one.acquire("name");
    assert.equal(await two.tryAcquire("name"), undefined);
    assert.equal(await one.tryAcquire("name"), undefined, "not twice in one process either");
    assert.equal(await two.busy("name"), true);
    await assert.rejects(
      two.acquire("name", { timeout_ms: 10 }),
      withCode("repository.lock-timeout"),
    );
    await lock.release();
    assert.equal(await two.busy("name"), false);
    assert.ok(await two.tryAcquire("name"));
  }));

test("the death of the holder, a reboot and an unreadable lock free it", () =>
  withLayout(async (host, layout) => {
    const dying = host.world();
    await locksOf(dying, layout).acquire("name");
    host.end(dying.id);
    assert.ok(await locksOf(host.world(), layout).tryAcquire("name"));
    host.bootId = "boot-2";
    assert.ok(await locksOf(host.world(), layout).tryAcquire("name"));
    await writeFile(join(layout.locks, "torn"), "");
    assert.ok(await locksOf(host.world(), layout).tryAcquire("torn"));
  }));

test("a lock is freed even when a breaker before us died", () =>
  withLayout(async (host, layout) => {
    const dying = host.world();
    const locks = locksOf(dying, layout);
    await locks.acquire("name");
    await locks.acquire("name.break");
    await locks.acquire("name.break.break");
    host.end(dying.id);
    const other = locksOf(host.world(), layout);
    const lock = await other.tryAcquire("name");
    await lock?.release();
    await other.tidy();
    assert.deepEqual(await host.world().files.list(layout.locks), []);
    assert.deepEqual((await host.world().files.list(layout.holders)).length, 1);
  }));

test("never two holders, whatever the order in which processes come and die", () =>
  withLayout(async (host, layout) => {
    const lives = fc.array(fc.constantFrom("release", "die"), { minLength: 6, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(lives, async (ends) => {
        let inside = 0;
        const live = async (end: string): Promise<void> => {
          const world = host.world();
          const lock = await locksOf(world, layout).acquire("name");
          inside += 1;
          assert.equal(inside, 1);
          await world.clock.sleep(1);
          assert.equal(inside, 1);
          inside -= 1;
          if (end === "die") host.end(world.id);
          else await lock.release();
        };
        await Promise.all(ends.map(live));
      }),
      { numRuns: 15 },
    );
  }));

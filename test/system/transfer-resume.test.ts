/** Connections that are cut, links that stall, processes that are killed: nothing travels twice. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { userDataDigest } from "#block";
import {
  Clouds,
  MIB,
  deviceWith,
  memoryResume,
  portOf,
  referenceTo,
  sampleBytes,
  soon,
  sourceOf,
} from "../../src/transfer/fixture.suite.ts";
import type { DataServer } from "#transfer";
import { startRelay, type Relay } from "../../src/transfer/relay.suite.ts";

const QUICK = { backoffMin_ms: 5, backoffMax_ms: 50 };
const TWICE_BYTES_MAX = 8 * MIB;

/** A link to the server, closed with the clouds. */
async function relayTo(clouds: Clouds, server: DataServer, bitsPerSecond?: number): Promise<Relay> {
  const target = { host: "127.0.0.1", port: portOf(server) };
  const relay = await startRelay({
    target,
    ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }),
  });
  clouds.onDispose(() => relay.close());
  return relay;
}

test("cut at any byte, blob and user data go on where they were", async () => {
  await using clouds = await Clouds.start();
  const blob = randomBytes(9 * MIB);
  const device = await deviceWith(64 * MIB, [{ offset: 3 * MIB + 5, bytes: sampleBytes(9 * MIB) }]);
  const server = await clouds.serving(sourceOf([blob], device));
  const relay = await relayTo(clouds, server);
  const receiver = clouds.receiving(relay.port, { timing: QUICK });
  // The next cut is set when a connection comes, in the handshake or in the midst of the data.
  let cuts = 0;
  const cutAgain = (): void => {
    if (cuts >= 10) return;
    cuts += 1;
    // Fixed numbers without a pattern: every third within the handshake, the rest in the data.
    relay.cutAfter(((cuts * 1_299_709) % (cuts % 3 === 0 ? 3000 : 2 * MIB)) + 1);
  };
  cutAgain();
  let connections = 1;
  const watch = setInterval(() => {
    if (relay.connections() === connections) return;
    connections = relay.connections();
    cutAgain();
  }, 1);
  const path = clouds.path("disk.raw");
  const [, report] = await Promise.all([
    receiver.fetchBlob(referenceTo(blob), soon()),
    receiver.fetchUserData(path, soon()),
  ]).finally(() => clearInterval(watch));
  assert.ok((await clouds.held(referenceTo(blob).digest)).equals(blob));
  assert.equal(report.digest, (await userDataDigest(device)).digest);
  assert.ok(relay.connections() > 3, `only ${relay.connections()} connections`);
});

test("a cut sends no more than 8 MiB twice", async () => {
  await using clouds = await Clouds.start();
  const blob = randomBytes(24 * MIB);
  const server = await clouds.serving(sourceOf([blob]));
  const relay = await relayTo(clouds, server);
  relay.cutAfter(13 * MIB);
  const receiver = clouds.receiving(relay.port, { timing: QUICK });
  await receiver.fetchBlob(referenceTo(blob), soon());
  assert.equal(relay.connections(), 2);
  const down = relay.bytes().down;
  assert.ok(down < blob.length * 1.01 + TWICE_BYTES_MAX, `${down} bytes for ${blob.length}`);
});

test("a damaged byte on the way breaks the connection, never the data", async () => {
  await using clouds = await Clouds.start();
  const blob = randomBytes(6 * MIB);
  const server = await clouds.serving(sourceOf([blob]));
  const relay = await relayTo(clouds, server);
  relay.corruptAfter(3 * MIB);
  const receiver = clouds.receiving(relay.port, { timing: QUICK });
  await receiver.fetchBlob(referenceTo(blob), soon());
  assert.equal(relay.connections(), 2);
});

test("a silent link is noticed by both sides and given up for another", async () => {
  await using clouds = await Clouds.start();
  const timing = { ...QUICK, tick_ms: 20, ping_ms: 60, silence_ms: 300 };
  const blob = randomBytes(12 * MIB);
  const server = await clouds.serving(sourceOf([blob]), {}, { timing });
  const relay = await relayTo(clouds, server, 40e6);
  let frozen = false;
  const receiver = clouds.receiving(relay.port, {
    timing: { ...timing, connect_ms: 200, handshake_ms: 300 },
    onProgress: ({ doneBytes }) => {
      if (doneBytes < 4 * MIB || frozen) return;
      frozen = true;
      relay.setFrozen(true);
      setTimeout(() => {
        relay.setRate(undefined);
        relay.setFrozen(false);
      }, 1000);
    },
  });
  await receiver.fetchBlob(referenceTo(blob), soon());
  assert.ok(frozen);
  assert.ok(relay.connections() > 1);
  assert.ok((await clouds.held(referenceTo(blob).digest)).equals(blob));
});

test("a link that is slow but alive is not given up", async () => {
  await using clouds = await Clouds.start();
  const timing = { tick_ms: 20, ping_ms: 60, silence_ms: 400 };
  const blob = randomBytes(256 * 1024);
  const server = await clouds.serving(sourceOf([blob]), {}, { timing });
  const relay = await relayTo(clouds, server, 1e6);
  await clouds.receiving(relay.port, { timing }).fetchBlob(referenceTo(blob), soon());
  assert.equal(relay.connections(), 1);
});

test("given up half-way, a later call goes on; the sender serves others meanwhile", async () => {
  await using clouds = await Clouds.start();
  const blob = randomBytes(24 * MIB);
  const device = await deviceWith(64 * MIB, [{ offset: 0, bytes: randomBytes(24 * MIB) }]);
  const small = Buffer.from("small");
  const server = await clouds.serving(sourceOf([blob, small], device));
  const relay = await relayTo(clouds, server, 400e6);
  const stop = new AbortController();
  const seen = new Set<string>();
  const receiver = clouds.receiving(relay.port, {
    onProgress: ({ stream, doneBytes }) => {
      if (doneBytes > 10 * MIB) seen.add(stream);
      if (seen.size === 2) stop.abort(new Error("the user said so"));
    },
  });
  const path = clouds.path("disk.raw");
  const results = await Promise.allSettled([
    receiver.fetchBlob(referenceTo(blob), stop.signal),
    receiver.fetchUserData(path, stop.signal),
  ]);
  for (const result of results) {
    assert.equal(result.status, "rejected");
    assert.match(String(result.reason), /the user said so/);
  }
  await assert.rejects(stat(path), { code: "ENOENT" });
  await receiver.fetchBlob(referenceTo(small), soon());
  assert.equal(relay.connections(), 1);
  const before = relay.bytes().down;
  await receiver.fetchBlob(referenceTo(blob), soon());
  await receiver.fetchUserData(path, soon());
  const down = relay.bytes().down - before;
  assert.ok(down < 28 * MIB + 2 * TWICE_BYTES_MAX, `${down} bytes after half was there`);
});

test("a sender that is restarted offers the session again and the receiver goes on", async () => {
  await using clouds = await Clouds.start();
  const device = await deviceWith(64 * MIB, [{ offset: MIB, bytes: randomBytes(16 * MIB) }]);
  const resume = memoryResume();
  const first = await clouds.serving(sourceOf([], device), { resume });
  const port = portOf(first);
  const half = Promise.withResolvers<void>();
  const receiver = clouds.receiving(port, {
    timing: QUICK,
    onProgress: ({ doneBytes }) => doneBytes > 6 * MIB && half.resolve(),
  });
  const path = clouds.path("disk.raw");
  const fetched = receiver.fetchUserData(path, soon());
  await half.promise;
  await first.close();
  // Offered before it listens, so that the receiver never meets a port without its session.
  const peerCertificate = clouds.receiver.certificate;
  const source = sourceOf([], device);
  const offer = { id: "m1", token: clouds.token, peerCertificate, source, resume };
  await clouds.server({ port, offers: [offer] });
  assert.equal((await fetched).digest, (await userDataDigest(device)).digest);
});

test("candidates are tried in turn, again and again until one answers", async () => {
  await using clouds = await Clouds.start();
  const bytes = randomBytes(1000);
  const reserved = createServer();
  reserved.listen(0, "127.0.0.1");
  await once(reserved, "listening");
  const address = reserved.address();
  assert.ok(address !== null && typeof address === "object");
  await new Promise((resolve) => reserved.close(resolve));
  const nobody = { host: "127.0.0.1", port: 1 };
  const later = { host: "127.0.0.1", port: address.port };
  const receiver = clouds.receiving(0, {
    timing: QUICK,
    endpoint: { candidates: [nobody, later], certificate: clouds.sender.certificate },
  });
  const fetched = receiver.fetchBlob(referenceTo(bytes), soon());
  await clouds.world.clock.sleep(100);
  const peerCertificate = clouds.receiver.certificate;
  const offer = { id: "m1", token: clouds.token, peerCertificate, source: sourceOf([bytes]) };
  await clouds.server({ port: later.port, offers: [offer] });
  await fetched;
  const stopped = clouds.receiving(1, { timing: QUICK });
  await assert.rejects(stopped.fetchBlob(referenceTo(randomBytes(9)), AbortSignal.timeout(100)), {
    name: "TimeoutError",
  });
});

const CHILD = join(import.meta.dirname, "..", "support", "receiver-child.ts");

/** Runs the receiver in a process of its own; kills it with -9 after `killAfterBytes`. */
async function runChild(configuration: string, killAfterBytes?: number): Promise<string> {
  const child = spawn(process.execPath, [CHILD, configuration], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let last = "";
  const done = new Map<string, number>();
  for await (const line of createInterface({ input: child.stdout })) {
    last = line;
    const [stream = "", bytes] = line.split(" ");
    done.set(stream, Number(bytes));
    const least = Math.min(...done.values());
    if (done.size >= 2 && least > (killAfterBytes ?? Infinity)) child.kill("SIGKILL");
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.signalCode ?? last;
}

test("a receiver that is killed by -9 goes on in its next life", async () => {
  await using clouds = await Clouds.start();
  const blob = randomBytes(24 * MIB);
  const device = await deviceWith(64 * MIB, [{ offset: MIB, bytes: randomBytes(24 * MIB) }]);
  const server = await clouds.serving(sourceOf([blob], device));
  const relay = await relayTo(clouds, server, 200e6);
  const configuration = clouds.path("child.json");
  const path = clouds.path("disk.raw");
  await writeFile(
    configuration,
    JSON.stringify({
      directory: clouds.directory,
      port: relay.port,
      certificate: clouds.sender.certificate,
      token: clouds.token,
      blob: referenceTo(blob),
      path,
    }),
  );
  assert.equal(await runChild(configuration, 6 * MIB), "SIGKILL");
  await assert.rejects(stat(path), { code: "ENOENT" });
  assert.equal(await runChild(configuration, 14 * MIB), "SIGKILL");
  const expected = await userDataDigest(device);
  assert.equal(await runChild(configuration), `done ${expected.digest}`);
  assert.ok(await clouds.store.hasBlob(referenceTo(blob).digest));
  const twice = relay.bytes().down - 48 * MIB * 1.01;
  // Two streams, two kills.
  assert.ok(twice < 4 * TWICE_BYTES_MAX, `${twice} bytes travelled twice`);
  await assert.rejects(stat(`${path}.part`), { code: "ENOENT" });
});

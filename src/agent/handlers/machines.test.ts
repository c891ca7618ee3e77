import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { TesseraError } from "#core";
import { bufferSource, canonicalTree, fileSource, writeErofsFile } from "#image";
import { twoClouds, type TestCloud } from "../clouds.suite.ts";
import { layoutOf } from "../layout.ts";
import { call, code } from "./call.suite.ts";

async function cloudOf(t: TestContext): Promise<TestCloud> {
  return (await twoClouds(t)).clouds[0];
}

/** An appliance file. */
function file(name: string, programs = "web") {
  const text = `{name: ${name}, kernel: kernel, os: os, programs: [${programs}], resources: {cpus: 1, memory: 256M, data: 64M}}`;
  return { fileName: `${name}.yaml`, text };
}

/** A program that needs what no other component provides. */
async function addDemanding(cloud: TestCloud): Promise<void> {
  const { world, parts } = cloud;
  const path = join(cloud.root, "image");
  const content = bufferSource(Buffer.from("demands"));
  const common = { mode: 0o755, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };
  const entry = { type: "file", path: "usr/bin/demanding", ...common, content } as const;
  await writeErofsFile(world, canonicalTree([entry]), path);
  const image = await fileSource(world, path);
  const { description } = await parts.store.resolve("web");
  const requires = [{ type: "soname", name: "libdemand.so.6", version: "DEMAND_1" }] as const;
  await parts.store.add({
    description: { ...description, name: "demanding", requires },
    fragments: [],
    image,
  });
  await image.close();
}

test("an appliance is checked, kept, shown by name and digest, and removed", async (t) => {
  const cloud = await cloudOf(t);
  const checked = await call(cloud, "appliance.check", file("shop"));
  assert.deepEqual([checked.fits, checked.unmet], [true, []]);
  assert.deepEqual(await call(cloud, "appliance.list", {}), { appliances: [] });
  const kept = await call(cloud, "appliance.add", file("shop"));
  assert.deepEqual(kept, checked.appliance);
  await call(cloud, "appliance.add", file("archive", "data"));
  const { appliances } = await call(cloud, "appliance.list", {});
  assert.deepEqual(
    appliances.map(({ name }) => name),
    ["archive", "shop"],
  );
  for (const appliance of ["shop", kept.digest]) {
    assert.deepEqual(await call(cloud, "appliance.show", { appliance }), kept);
  }
  const replaced = await call(cloud, "appliance.add", file("shop", "web, data"));
  assert.deepEqual(await call(cloud, "appliance.show", { appliance: "shop" }), replaced);
  const removed = await call(cloud, "appliance.remove", { appliance: replaced.digest });
  assert.deepEqual(removed, { removed: "shop" });
  for (const appliance of ["shop", kept.digest, "../appliances/archive", "\ud800"]) {
    const unknown = code("agent.appliance-unknown");
    await assert.rejects(call(cloud, "appliance.show", { appliance }), unknown, appliance);
    await assert.rejects(call(cloud, "appliance.remove", { appliance }), unknown, appliance);
  }
});

test("an appliance whose needs are not met is told of, and not kept", async (t) => {
  const cloud = await cloudOf(t);
  await addDemanding(cloud);
  const needy = file("needy", "web, demanding");
  const { fits, unmet } = await call(cloud, "appliance.check", needy);
  assert.equal(fits, false);
  assert.deepEqual(
    unmet.map(({ componentName, level, need }) => [componentName, level, need.name]),
    [["demanding", "binary", "libdemand.so.6"]],
  );
  await assert.rejects(call(cloud, "appliance.add", needy), (error) => {
    if (!code("compose.constraint-unmet")(error)) return false;
    assert.match(String(error), /"needy".*demanding needs libdemand\.so\.6/);
    return true;
  });
  const wrong = [
    ["compose.appliance-invalid", { fileName: "a.yaml", text: "{name: a}" }],
    ["repository.component-unknown", file("a", "nginx")],
    ["compose.kind-mismatch", file("a", "os/os")],
  ] as const;
  for (const [expected, input] of wrong) {
    await assert.rejects(call(cloud, "appliance.check", input), code(expected));
    await assert.rejects(call(cloud, "appliance.add", input), code(expected));
  }
  assert.deepEqual(await call(cloud, "appliance.list", {}), { appliances: [] });
});

test("a machine keeps its own copy of an appliance that is removed or replaced", async (t) => {
  const cloud = await cloudOf(t);
  const appliance = await call(cloud, "appliance.add", file("shop"));
  await call(cloud, "machine.create", { name: "web-1", appliance: "shop" });
  await call(cloud, "appliance.add", file("shop", "data"));
  await call(cloud, "appliance.remove", { appliance: "shop" });
  const machine = await call(cloud, "machine.start", { machine: "web-1" });
  assert.deepEqual([machine.state, machine.appliance], ["running", appliance]);
  const create = call(cloud, "machine.create", { name: "web-2", appliance: "shop" });
  await assert.rejects(create, code("agent.appliance-unknown"));
});

test("a machine is not made of an appliance whose components have gone", async (t) => {
  const cloud = await cloudOf(t);
  await call(cloud, "appliance.add", file("shop"));
  await call(cloud, "component.remove", { component: "web" });
  const create = call(cloud, "machine.create", { name: "web-1", appliance: "shop" });
  await assert.rejects(create, code("repository.component-unknown"));
  assert.deepEqual(await call(cloud, "machine.list", {}), { machines: [] });
  assert.equal((await cloud.parts.store.pins()).size, 0);
});

test("a machine is made with files, and its name is taken then", async (t) => {
  const cloud = await cloudOf(t);
  await call(cloud, "appliance.add", file("shop"));
  const secret = "the private key of shop.example";
  const files = [
    {
      path: "/etc/shop/key.pem",
      contentBase64: Buffer.from(secret).toString("base64"),
      mode: 0o600,
    },
    { path: "/etc/shop/empty", contentBase64: "" },
  ];
  const cloudInit = { userData: "#cloud-config\nhostname: shop-of-the-user-data\n" };
  const input = { name: "web-1", appliance: "shop", files, cloudInit };
  const machine = await call(cloud, "machine.create", input);
  assert.deepEqual([machine.name, machine.state], ["web-1", "stopped"]);
  const data = await readFile(cloud.parts.machines.store.dataPath(machine.uuid));
  assert.ok(data.includes(secret), "the file is in the user data block");
  assert.ok(data.includes("shop-of-the-user-data\n"));
  for (const text of ["web-1", machine.uuid]) {
    assert.deepEqual(await call(cloud, "machine.show", { machine: text }), machine);
  }
  const again = call(cloud, "machine.create", { name: "web-1", appliance: "shop" });
  await assert.rejects(again, code("agent.machine-exists"));
  const wrong = { ...input, name: "c", cloudInit: { userData: "#cloud-config\nruncmd: [ls]\n" } };
  const unsupported = call(cloud, "machine.create", wrong);
  await assert.rejects(unsupported, code("compose.cloud-init-unsupported"));
  const outside = [{ path: "/../shop", contentBase64: "" }];
  const create = call(cloud, "machine.create", { name: "b", appliance: "shop", files: outside });
  await assert.rejects(create, TesseraError);
  assert.deepEqual(await call(cloud, "machine.list", {}), { machines: [machine] });
  assert.deepEqual(await call(cloud, "machine.remove", { machine: "web-1" }), {
    removed: machine.uuid,
  });
  const gone = call(cloud, "machine.show", { machine: "web-1" });
  await assert.rejects(gone, code("agent.machine-unknown"));
  await call(cloud, "machine.create", { name: "web-1", appliance: "shop" });
});

test("a machine is started, stopped, and stopped again", async (t) => {
  const cloud = await cloudOf(t);
  const uuid = await cloud.machine("web-1", { stopped: true });
  const started = await call(cloud, "machine.start", { machine: "web-1" });
  assert.deepEqual([started.uuid, started.state], [uuid, "running"]);
  const running = call(cloud, "machine.remove", { machine: uuid });
  await assert.rejects(running, code("agent.machine-in-use"));
  const first = await call(cloud, "machine.stop", { machine: "web-1" });
  assert.deepEqual([first.stop, first.machine.state], ["graceful", "stopped"]);
  const second = await call(cloud, "machine.stop", { machine: "web-1", force: true });
  assert.deepEqual([second.stop, second.machine.state], ["was-stopped", "stopped"]);
  cloud.hypervisor.mute = true;
  const mute = call(cloud, "machine.start", { machine: uuid, timeout_ms: 1 });
  await assert.rejects(mute, code("hypervisor.boot-timeout"));
  const { state } = await call(cloud, "machine.show", { machine: uuid });
  assert.equal(state, "running");
  for (const name of [
    "machine.start",
    "machine.stop",
    "machine.console",
    "machine.remove",
  ] as const) {
    await assert.rejects(call(cloud, name, { machine: "none" }), code("agent.machine-unknown"));
  }
});

test("what another cloud needs of a machine is neither stopped nor removed", async (t) => {
  const cloud = await cloudOf(t);
  const { machines, migrations } = cloud.parts;
  const uuid = await cloud.machine("web-1");
  await machines.update(uuid, ({ machine }) => ({ machine: { ...machine, migration: "m" } }));
  const record = { id: "m", mode: "hot", role: "source", phase: "supplying", peer: "inquadro" };
  const list = () => [{ ...record, appliance }] as unknown as ReturnType<typeof migrations.list>;
  const { appliance } = (await machines.store.resolve(uuid)).machine;
  const changes = {
    migrations: Object.assign(Object.create(migrations), { list }) as typeof migrations,
  };
  for (const [name, done] of [
    ["machine.stop", "stopped"],
    ["machine.remove", "removed"],
  ] as const) {
    await assert.rejects(call(cloud, name, { machine: "web-1" }, changes), (error) => {
      const text = `cannot be ${done}: the machine at inquadro still needs from this cloud`;
      return code("agent.machine-in-use")(error) && String(error).includes(text);
    });
  }
  assert.ok(machines.running(uuid) !== undefined);
});

test("a machine that is gone or migrates is not started, and is shown as such", async (t) => {
  const cloud = await cloudOf(t);
  const { machines } = cloud.parts;
  const uuid = await cloud.machine("web-1", { stopped: true });
  await machines.update(uuid, ({ machine }) => ({ machine: { ...machine, migration: "m" } }));
  const migrating = call(cloud, "machine.start", { machine: "web-1" });
  await assert.rejects(migrating, code("agent.machine-migrating"));
  const busy = call(cloud, "machine.remove", { machine: "web-1" });
  await assert.rejects(busy, code("agent.machine-in-use"));
  await machines.update(uuid, ({ machine: { migration: _ended, ...machine } }) => ({
    machine: { ...machine, state: "gone", cloud: "inquadro" },
  }));
  const gone = call(cloud, "machine.start", { machine: "web-1" });
  await assert.rejects(gone, code("agent.machine-gone"));
  assert.equal(cloud.hypervisor.specification(uuid), undefined);
  // Its name is free for another one, which is meant by it from then on.
  const other = await cloud.machine("web-1", { stopped: true });
  assert.equal((await call(cloud, "machine.show", { machine: "web-1" })).uuid, other);
  assert.equal((await call(cloud, "machine.show", { machine: uuid })).state, "gone");
  await call(cloud, "machine.start", { machine: "web-1" });
});

test("the console comes in pieces that end with whole characters", async (t) => {
  const cloud = await cloudOf(t);
  const machine = await cloud.machine("web-1", { stopped: true });
  const path = join(cloud.parts.machines.store.directory(machine), "console.log");
  const read = (offset?: number) =>
    call(cloud, "machine.console", { machine, ...(offset === undefined ? {} : { offset }) });
  assert.deepEqual(await read(), { text: "", offset: 0, sizeBytes: 0 });
  const text = "boot: größe 12 € ☃ 𝄞 done\n";
  const bytes = Buffer.from(text);
  for (let end = 0; end <= bytes.length; end += 1) {
    await writeFile(path, bytes.subarray(0, end));
    const { offset, sizeBytes, ...chunk } = await read(0);
    assert.deepEqual([sizeBytes, offset], [end, Buffer.byteLength(chunk.text)], `cut at ${end}`);
    assert.ok(text.startsWith(chunk.text) && end - offset < 4, chunk.text);
    await writeFile(path, bytes);
    assert.equal(chunk.text + (await read(offset)).text, text, `cut at ${end}`);
  }
  const beyond = await read(bytes.length + 100);
  assert.deepEqual(beyond, { text: "", offset: bytes.length, sizeBytes: bytes.length });
});

test("a long console, and one that is no text, come to their ends", async (t) => {
  const cloud = await cloudOf(t);
  const machine = await cloud.machine("web-1", { stopped: true });
  const path = join(cloud.parts.machines.store.directory(machine), "console.log");
  const all = async (): Promise<{ text: string; offset: number }> => {
    let [text, offset] = ["", 0];
    for (;;) {
      const chunk = await call(cloud, "machine.console", { machine, offset });
      text += chunk.text;
      if (chunk.offset === offset) return { text, offset };
      offset = chunk.offset;
    }
  };
  const long = `${"x".repeat(2 ** 18 - 1)}€${"y".repeat(2 ** 18 - 4)}𝄞 end`;
  await writeFile(path, long);
  assert.equal((await all()).text, long);
  const binary = Buffer.from([0x80, 0x80, 0x80, 0x80, 0xff, 0xfe, 0xf8, 0x88, 0x41, 0xc3]);
  await writeFile(path, binary);
  assert.ok((await all()).offset >= binary.length - 1);
  for (const byte of [0xf8, 0xff, 0xc0]) {
    await writeFile(path, Buffer.from([0x41, byte]));
    assert.equal((await all()).offset, 2, `${byte} begins no character`);
  }
});

test("one description that cannot be read does not hide the other machines", async (t) => {
  const cloud = await cloudOf(t);
  const good = await cloud.machine("good", { stopped: true });
  const bad = await cloud.machine("bad", { stopped: true });
  const path = join(layoutOf(cloud.root).machines, bad, "machine.json");
  const whole = await readFile(path, "utf8");
  const others = whole.replaceAll(bad, crypto.randomUUID());
  for (const text of ["", whole.slice(0, 100), "{}", others, " ".repeat(2 ** 22 + 1)]) {
    await writeFile(path, text);
    await cloud.restart();
    const { machines } = await call(cloud, "machine.list", {});
    assert.deepEqual(
      machines.map(({ uuid }) => uuid),
      [good],
    );
    for (const name of ["machine.show", "machine.start", "machine.remove"] as const) {
      const refused = call(cloud, name, { machine: bad });
      await assert.rejects(refused, code("agent.machine-corrupt"));
    }
    assert.equal((await call(cloud, "machine.show", { machine: "good" })).uuid, good);
  }
  const { pinnedBy } = await call(cloud, "component.show", { component: "web" });
  assert.deepEqual(pinnedBy.toSorted(), [`machine:${bad}`, `machine:${good}`].toSorted());
  await call(cloud, "machine.start", { machine: "good" });
  await writeFile(path, whole);
  assert.equal((await call(cloud, "machine.start", { machine: "bad" })).uuid, bad);
});

import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import * as fc from "fast-check";
import { SaxesParser } from "saxes";
import { extract } from "tar-stream";
import { realWorld } from "#system";
import { writeOva } from "./ova.ts";
import { encodeOvf, hardwareOf, type OvfMachine } from "./ovf.ts";
import { tarHeader, tarPadding, TAR_END } from "./tar.ts";

const OVF = "http://schemas.dmtf.org/ovf/envelope/1";
const RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData";

const MACHINE: OvfMachine = {
  name: "web-1",
  uuid: "6fa459ea-ee8a-4ca4-894e-db77e160355e",
  cpus: 2,
  memoryBytes: 512 * 2 ** 20,
  diskBytes: 2 ** 31,
  populatedBytes: 4e8,
  file: { name: "web-1-disk1.vmdk", sizeBytes: 1234 },
  ...hardwareOf(new Set(["ata_piix", "vmxnet3"])),
};

interface Element {
  readonly uri: string;
  readonly local: string;
  readonly path: string;
  readonly attributes: Readonly<Record<string, string>>;
  text: string;
}

/** Every element, in order; throws where the text is not well formed. */
function elementsOf(text: string): Element[] {
  const parser = new SaxesParser({ xmlns: true });
  const [open, all]: [Element[], Element[]] = [[], []];
  parser.on("error", (error) => {
    throw error;
  });
  parser.on("opentag", ({ uri, local, attributes }) => {
    const path = [...open.map((item) => item.local), local].join("/");
    const plain = Object.values(attributes).map((a) => [a.local, a.value] as const);
    const element = { uri, local, path, attributes: Object.fromEntries(plain), text: "" };
    open.push(element);
    all.push(element);
  });
  parser.on("text", (piece) => {
    const last = open.at(-1);
    if (last !== undefined) last.text += piece;
  });
  parser.on("closetag", () => void open.pop());
  parser.write(text).close();
  return all;
}

/** The items of the hardware, each as its members. */
function itemsOf(elements: readonly Element[]): Record<string, string>[] {
  const items: Record<string, string>[] = [];
  for (const { path, uri, local, text } of elements) {
    if (path.endsWith("VirtualHardwareSection/Item")) items.push({});
    const last = items.at(-1);
    if (uri === RASD && last !== undefined) last[local] = text;
  }
  return items;
}

test("the descriptor names one machine with its disk, processors, memory and network", () => {
  const elements = elementsOf(encodeOvf(MACHINE));
  const one = (path: string): Element => {
    const found = elements.filter((element) => element.path === path);
    assert.equal(found.length, 1, path);
    assert.equal(found[0]?.uri, OVF);
    return found[0];
  };
  const file = one("Envelope/References/File").attributes;
  assert.deepEqual([file["href"], file["size"]], ["web-1-disk1.vmdk", "1234"]);
  const disk = one("Envelope/DiskSection/Disk").attributes;
  assert.equal(disk["fileRef"], file["id"]);
  assert.equal(Number(disk["capacity"]), MACHINE.diskBytes);
  assert.equal(disk["capacityAllocationUnits"], "byte");
  assert.match(disk["format"] ?? "", /streamOptimized$/);
  assert.equal(one("Envelope/NetworkSection/Network").attributes["name"], "network");
  assert.equal(one("Envelope/VirtualSystem").attributes["id"], "web-1");
  const items = itemsOf(elements);
  const byType = new Map(items.map((item) => [Number(item["ResourceType"]), item]));
  assert.equal(byType.get(3)?.["VirtualQuantity"], "2");
  assert.equal(byType.get(4)?.["VirtualQuantity"], "512");
  assert.equal(byType.get(17)?.["HostResource"], `ovf:/disk/${disk["diskId"] ?? ""}`);
  assert.equal(byType.get(17)?.["Parent"], byType.get(5)?.["InstanceID"]);
  assert.equal(byType.get(10)?.["ResourceSubType"], "VmxNet3");
  assert.equal(new Set(items.map((item) => item["InstanceID"])).size, items.length);
  for (const item of items) {
    assert.deepEqual(Object.keys(item), Object.keys(item).toSorted(), "the schema's order");
  }
});

function hardwareFor(...names: string[]): [controller: string, network: string] {
  const { controller, network } = hardwareOf(new Set(names));
  return [controller.subType, network.subType];
}

test("hardware is what the guest has drivers for", () => {
  assert.deepEqual(hardwareFor("ahci", "e1000", "mptspi"), ["AHCI", "E1000"]);
  assert.deepEqual(hardwareFor("mptspi", "vmxnet3"), ["lsilogic", "VmxNet3"]);
  assert.deepEqual(hardwareFor("vmw_pvscsi"), ["VirtualSCSI", "E1000"]);
  assert.deepEqual(hardwareFor(), ["PIIX4", "E1000"]);
});

test("any name stays text", () => {
  const names = fc.string({
    minLength: 1,
    maxLength: 20,
    unit: fc.constantFrom("<", ">", "&", '"', "'", "a", "]"),
  });
  fc.assert(
    fc.property(names, (name) => {
      const elements = elementsOf(encodeOvf({ ...MACHINE, name }));
      const system = elements.find(({ local }) => local === "VirtualSystem");
      assert.equal(system?.attributes["id"], name);
    }),
    { numRuns: 50 },
  );
});

async function membersOf(archive: Uint8Array): Promise<[name: string, content: Buffer][]> {
  const members: [string, Buffer][] = [];
  const reader = Readable.from([archive]).pipe(extract());
  for await (const entry of reader) {
    const pieces: Buffer[] = [];
    for await (const piece of entry) pieces.push(piece as Buffer);
    members.push([entry.header.name, Buffer.concat(pieces)]);
  }
  return members;
}

test("an archive has descriptor, manifest and disk, and the sums are theirs", async () => {
  const directory = mkdtempSync(join(tmpdir(), "tessera-ova-"));
  try {
    const disk = Buffer.alloc(3 * 2 ** 20 + 5, 7);
    writeFileSync(join(directory, "disk"), disk);
    const { file: _file, ...machine } = MACHINE;
    const [from, to] = [join(directory, "disk"), join(directory, "web-1.ova")];
    await writeOva(realWorld(), from, to, machine, new AbortController().signal);
    const bytes = readFileSync(to);
    assert.equal(bytes.length % 512, 0);
    const members = await membersOf(bytes);
    assert.deepEqual(
      members.map(([name]) => name),
      ["web-1.ovf", "web-1.mf", "web-1-disk1.vmdk"],
    );
    const [ovf, mf, vmdk] = members.map(([, content]) => content);
    assert.ok(vmdk?.equals(disk));
    assert.ok(elementsOf(ovf?.toString() ?? "").length > 10);
    const [own, other] = [ovf, vmdk].map((content) => hash("sha256", content ?? "", "hex"));
    const lines = [`SHA256(web-1.ovf)= ${own}`, `SHA256(web-1-disk1.vmdk)= ${other}`];
    assert.deepEqual(mf?.toString().trim().split("\n"), lines);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("headers of tar are read by others, large sizes among them", async () => {
  const content = Buffer.from("content");
  const whole = [tarHeader("a", content.length), content, tarPadding(content.length), TAR_END];
  assert.deepEqual(await membersOf(Buffer.concat(whole)), [["a", content]]);
  const large = 2 ** 40 + 3;
  const reader = extract();
  const header = await new Promise<{ size?: number }>((resolve) => {
    reader.once("entry", (found) => resolve(found as { size?: number }));
    reader.write(tarHeader("large", large));
  });
  reader.destroy();
  assert.equal(header.size, large);
});

/** Descriptors, domains, archives and manifests: what is taken of them, and what is refused. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode, TesseraError } from "#core";
import { readArchive } from "./archive.ts";
import { archiveOf, diskOf, domainOf, ovfOf, tarMember } from "./described.suite.ts";
import { readDomain } from "./domain.ts";
import { readManifest } from "./manifest.ts";
import { readOva } from "./ova.ts";
import { readOvf } from "./ovf.ts";
import { parseXml } from "./xml.ts";

const CODES = ["import.image-damaged", "import.unsupported"];
const code = (text: string) => (error: unknown) => hasCode(error, text);
const { signal } = new AbortController();

test("an OVF tells processors, memory, the disk, and what is not carried over", () => {
  assert.deepEqual(readOvf(ovfOf(), "x"), {
    kind: "ovf",
    name: "old-1",
    cpus: 2,
    memoryBytes: 2 ** 30,
    disks: [{ file: "old-disk1.vmdk" }],
    notCarried: ['network card VmxNet3 on "VM Network"', 'CD drive "cdrom1"'],
  });
  for (const [units, quantity, expected] of [
    ["byte * 2^30", "2", 2 ** 31],
    ["MegaBytes", "512", 2 ** 29],
    ["GB", "1", 2 ** 30],
    ["byte", "1048576", 2 ** 20],
    ["furlongs", "2", undefined],
    ["byte * 2^20", "-5", undefined],
    ["byte * 2^60", "9", undefined],
  ] as const) {
    const { memoryBytes } = readOvf(ovfOf({ units, quantity }), "x");
    assert.equal(memoryBytes, expected, units);
  }
  assert.equal(readOvf(ovfOf({ cpus: "100000" }), "x").cpus, undefined);
});

test("what an OVF has that is not read is named", () => {
  const cases: readonly (readonly [RegExp, string])[] = [
    [/several machines/, ovfOf().replace("</Envelope>", "<VirtualSystem/></Envelope>")],
    [/several machines/, ovfOf().replaceAll(/VirtualSystem([> ])/g, "VirtualSystemCollection$1")],
    [/compressed by gzip/, ovfOf().replace("ovf:size", 'ovf:compression="gzip" ovf:size')],
    [/several pieces/, ovfOf().replace("ovf:size", 'ovf:chunkSize="9" ovf:size')],
    [/based on another/, ovfOf().replace("ovf:fileRef", 'ovf:parentRef="d" ovf:fileRef')],
    [/a <domain>/, domainOf()],
    [/document type/, `<!DOCTYPE a [<!ENTITY b "c">]>${ovfOf()}`],
  ];
  for (const [expected, text] of cases) {
    assert.throws(
      () => readOvf(text, "x"),
      (error) => hasCode(error, "import.unsupported") && expected.test(String(error)),
      String(expected),
    );
  }
});

test("a domain of libvirt tells the same", () => {
  const { disks, notCarried, ...told } = readDomain(domainOf(), "x");
  assert.deepEqual(told, { kind: "libvirt", name: "old-1", cpus: 4, memoryBytes: 2 ** 31 });
  assert.deepEqual(disks, [
    { file: "/images/old.qcow2", format: "qcow2" },
    { file: "/dev/vg/data" },
  ]);
  assert.deepEqual(notCarried, [
    'network card 52:54:00:00:00:01 on "br0"',
    'cdrom "/isos/debian.iso"',
    "device <hostdev>",
    'firmware "/usr/share/OVMF/OVMF_CODE.fd": machines here start their kernel directly',
    'processor mode "host-passthrough"',
  ]);
  for (const [unit, quantity, expected] of [
    ["", "1048576", 2 ** 30],
    ["GB", "2", 1908 * 2 ** 20],
    ["MiB", "256", 2 ** 28],
    ["stone", "2", undefined],
  ] as const) {
    const { memoryBytes } = readDomain(domainOf({ unit, quantity }), "x");
    assert.equal(memoryBytes, expected, unit);
  }
});

test("XML is bounded, and has no entities of its own", () => {
  const refused = [
    "",
    "<a>",
    "<a/><b/>",
    "<a>&b;</a>",
    `<a>${"<b>".repeat(70)}${"</b>".repeat(70)}</a>`,
    `<a>${"<b/>".repeat(20_001)}</a>`,
    `<a>${" ".repeat(2 ** 20)}</a>`,
    "<p:a/>",
  ];
  for (const text of refused) {
    assert.throws(() => parseXml(text, "x"), code("import.image-damaged"), text.slice(0, 40));
  }
  const { name, text, attributes } = parseXml(
    "\uFEFF<a b='&lt;&#65;'><!-- c --><![CDATA[<]]>d</a>",
    "x",
  );
  assert.deepEqual([name, text, attributes.get("b")], ["a", "<d", "<A"]);
});

test("members of an archive are plain files with plain names", async () => {
  const members = await readArchive(
    diskOf(
      archiveOf([
        ["a.ovf", "text"],
        ["./dir/b.vmdk", "disk"],
      ]),
    ),
    "x",
  );
  assert.deepEqual(
    [...members.values()].map(({ name, offset, sizeBytes }) => [name, offset, sizeBytes]),
    [
      ["a.ovf", 512, 4],
      ["dir/b.vmdk", 1536, 4],
    ],
  );
  const wrong: readonly (readonly [string, Buffer])[] = [
    ["import.image-damaged", archiveOf([["../a", ""]])],
    ["import.image-damaged", archiveOf([["/etc/passwd", ""]])],
    ["import.image-damaged", archiveOf([["a/../../b", ""]])],
    ["import.image-damaged", archiveOf([["a\\b", ""]])],
    [
      "import.image-damaged",
      archiveOf([
        ["a", ""],
        ["a", ""],
      ]),
    ],
    ["import.image-damaged", archiveOf([["a", "text"]]).subarray(0, 514)],
    ["import.unsupported", tarMember("a", "", "2")],
    ["import.unsupported", tarMember("a", "", "5")],
    ["import.unsupported", tarMember("a", "", "3")],
    [
      "import.image-damaged",
      archiveOf(Array.from({ length: 1001 }, (_, i) => [`f${i}`, ""] as const)),
    ],
    ["import.image-damaged", Buffer.alloc(1024, 7)],
  ];
  for (const [index, [expected, archive]] of wrong.entries()) {
    await assert.rejects(readArchive(diskOf(archive), "x"), code(expected), String(index));
  }
  const long = `16 path=${"n".repeat(5)}\n`.replace("16", "14");
  const pax = Buffer.concat([tarMember("pax", long, "x"), archiveOf([["short", "s"]])]);
  assert.deepEqual([...(await readArchive(diskOf(pax), "x")).keys()], ["nnnnn"]);
});

const hex = (digits: number): string => "aB".repeat(digits / 2);

test("a manifest has sums of three kinds, and nothing else", () => {
  const text = `SHA1(a)= ${hex(40)}\r\nSHA256(b c)= ${hex(64)}\n\nSHA512 (d) = ${hex(128)}\n`;
  assert.deepEqual(
    readManifest(text, "x").map(({ kind, file }) => [kind, file]),
    [
      ["sha1", "a"],
      ["sha256", "b c"],
      ["sha512", "d"],
    ],
  );
  for (const bad of ["a", "MD5(a)= 00", `SHA256(a)= ${hex(40)}`, `SHA1(a)= ${hex(38)}zz`]) {
    assert.throws(() => readManifest(bad, "x"), code("import.image-damaged"), bad);
  }
});

const DISK = "content of the disk";
const sum = (text: string): string => hash("sha256", text, "hex");

test("the disk of an OVA is found, and its sums are checked", async () => {
  const ovf = ovfOf();
  const manifest = `SHA256(old.ovf)= ${sum(ovf)}\nSHA256(old-disk1.vmdk)= ${sum(DISK)}\n`;
  const of = (changes: Readonly<Record<string, string | undefined>>, wanted?: string) => {
    const all = { "old.ovf": ovf, "old.mf": manifest, "old-disk1.vmdk": DISK, ...changes };
    const members = Object.entries(all).flatMap(([name, text]) =>
      text === undefined ? [] : [[name, text] as const],
    );
    return readOva(diskOf(archiveOf(members)), wanted, "x", signal);
  };
  const { disk, description } = await of({});
  assert.deepEqual(
    [disk.name, disk.sizeBytes, description.cpus],
    ["old-disk1.vmdk", DISK.length, 2],
  );
  assert.equal((await of({ "old.mf": undefined })).disk.name, "old-disk1.vmdk");
  assert.equal((await of({}, "old-disk1.vmdk")).disk.name, "old-disk1.vmdk");
  const damaged = "import.image-damaged";
  await assert.rejects(of({ "old-disk1.vmdk": `${DISK}.` }), code(damaged));
  await assert.rejects(of({ "old-disk1.vmdk": undefined }), code(damaged));
  await assert.rejects(
    of({ "old.mf": `${manifest}SHA1(gone)= ${"0".repeat(40)}\n` }),
    code(damaged),
  );
  await assert.rejects(of({ "old.mf": manifest + manifest }), code(damaged));
  await assert.rejects(of({ "other.ovf": ovf }), code(damaged));
  await assert.rejects(of({ "old.ovf": undefined }), code("import.unsupported"));
  await assert.rejects(of({}, "other.vmdk"), code("import.disk-not-found"));
  const two = {
    "old.ovf": ovfOf({ secondDisk: true }),
    "old.mf": undefined,
    "old-disk2.vmdk": "2",
  };
  await assert.rejects(of(two), code("import.disk-ambiguous"));
  const second = await of(two, "old-disk2.vmdk");
  assert.equal(second.disk.name, "old-disk2.vmdk");
  assert.equal(second.description.notCarried[0], 'disk "old-disk1.vmdk"');
});

const changed = (bytes: Buffer, list: readonly { at: number; byte: number }[]): Buffer => {
  for (const { at, byte } of list) bytes[at % bytes.length] = byte;
  return bytes;
};

const known = (error: unknown): void => {
  const codes = [...CODES, "import.disk-ambiguous", "import.disk-not-found"];
  assert.ok(error instanceof TesseraError && codes.includes(error.code), String(error));
};

test("no bytes make a reader fail otherwise than by its codes", async () => {
  const seeds = [ovfOf(), domainOf()];
  const archive = archiveOf([
    ["old.ovf", ovfOf()],
    ["old-disk1.vmdk", DISK],
  ]);
  const changes = fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255) }), { maxLength: 6 });
  const property = fc.asyncProperty(fc.nat(1), changes, async (index, list) => {
    const text = changed(Buffer.from(seeds[index] ?? ""), list).toString("latin1");
    try {
      if (index === 0) readOvf(text, "x");
      else readDomain(text, "x");
    } catch (error) {
      known(error);
    }
    await readOva(diskOf(changed(Buffer.from(archive), list)), undefined, "x", signal).catch(known);
  });
  await fc.assert(property, { numRuns: 150 });
});

/** What an image holds, what becomes of it, and the proof. Pure. */
import type { Output } from "#api";
import { formatBytes, shortDigest } from "#core";
import { plural, renderMembers, renderTable } from "./render-table.ts";
import { printable } from "./values.ts";

type Imported = Output<"machine.import">;

const CLASSES = [
  { title: "CLASS" },
  { title: "FILES", align: "right" },
  { title: "BYTES", align: "right" },
] as const;

const PARTS = [
  { title: "COMPONENT" },
  { title: "KIND" },
  { title: "PACKAGES", align: "right" },
  { title: "BYTES", align: "right" },
  { title: "ID" },
  { title: "HERE" },
] as const;

const CLOUDS = [
  { title: "MIGRATION" },
  { title: "COMPONENTS HELD", align: "right" },
  { title: "TO MOVE", align: "right" },
] as const;

export function renderImport(result: Imported): string {
  const { survey, machine, proof } = result;
  return [
    renderMembers(headOf(result)),
    "\n",
    renderTable(CLASSES, classRows(survey.classes)),
    "\n",
    renderTable(PARTS, survey.parts.map(partRow)),
    "\n",
    renderTable(CLOUDS, moveRows(result)),
    ...(survey.description?.notCarried ?? []).map(
      (text) => `note: not carried over: ${printable(text)}\n`,
    ),
    ...survey.leftFstab.map((line) => `note: fstab is not used, as of: ${printable(line)}\n`),
    ...(proof === undefined ? [] : ["\n", renderProof(proof)]),
    machine === undefined
      ? "nothing was written: a dry run\n"
      : `machine ${machine.name} ${machine.uuid}\n`,
  ].join("");
}

function headOf({ survey }: Imported): (readonly [string, string | undefined])[] {
  const { format, sizeBytes, allocatedBytes, description } = survey;
  return [
    ...(description === undefined ? [] : [["machine", describedOf(description)] as const]),
    ["image", `${format}, ${formatBytes(sizeBytes)}, ${formatBytes(allocatedBytes)} allocated`],
    ["system", survey.distribution],
    ["kernel", survey.kernelRelease],
    ["packages", packagesOf(survey.packages)],
    ...survey.volumes.map(({ number, kind, mountedAt }) => {
      const name = number === 0 ? "disk" : `partition ${number}`;
      return [
        name,
        `${kind}, ${mountedAt === undefined ? "not taken" : `as ${mountedAt}`}`,
      ] as const;
    }),
  ];
}

type Description = NonNullable<Imported["survey"]["description"]>;

function describedOf({ kind, name, cpus, memoryBytes }: Description): string {
  const parts = [
    `"${printable(name)}" as ${kind === "ovf" ? "its OVF" : "its domain"} says`,
    cpus === undefined ? "" : plural(cpus, "processor"),
    memoryBytes === undefined ? "" : `${formatBytes(memoryBytes)} of memory`,
  ];
  return parts.filter((part) => part !== "").join(", ");
}

function packagesOf({ count, bytes, intactBytes, unread }: Imported["survey"]["packages"]): string {
  if (count === 0) {
    const why =
      unread === undefined
        ? "no package database that is known"
        : `the package database of ${printable(unread)} is not supported`;
    return `${why}: the whole root is one component`;
  }
  const share = bytes === 0 ? 0 : (100 * intactBytes) / bytes;
  return `${plural(count, "package")}, ${formatBytes(bytes)}, ${share.toFixed(1)}% of it in components`;
}

function classRows(classes: Imported["survey"]["classes"]): string[][] {
  const { kernel, os, program, userData } = classes;
  const rows = [
    ["kernel", kernel],
    ["OS", os],
    ["programs", program],
    ["user data", userData],
  ] as const;
  return rows.map(([name, { files, bytes }]) => [name, String(files), formatBytes(bytes)]);
}

function partRow(part: Imported["survey"]["parts"][number]): string[] {
  const { name, version, kind, packages, bytes, id, held } = part;
  const here = held ? "held" : "new";
  return [`${name} ${version}`, kind, String(packages), formatBytes(bytes), shortDigest(id), here];
}

function moveRows({ moves, survey }: Imported): string[][] {
  const all = String(survey.parts.length);
  return [
    ["of the image as it is", "", formatBytes(moves.imageBytes)],
    ["to a cloud that holds nothing", "0", formatBytes(moves.worstBytes)],
    ["to a cloud that holds all", all, formatBytes(moves.bestBytes)],
    ...moves.clouds.map(({ cloud, held, bytes }) => [
      `to ${cloud}`,
      String(held),
      formatBytes(bytes),
    ]),
  ];
}

function renderProof(proof: NonNullable<Imported["proof"]>): string {
  return renderMembers([
    [
      "manifest of the image",
      `${plural(proof.entries, "path")}, ${formatBytes(proof.bytes)}, ${proof.imageDigest}`,
    ],
    ["manifest composed", proof.composedDigest],
    ["differences", "none"],
    ...proof.added.map((path) => ["added", `/${path}`] as const),
  ]);
}

/** Importing an image: what is asked, what is told meanwhile, what comes of it. */
import * as z from "zod";
import { bytes, count, digest, list, name, port, text } from "./scalars.ts";
import { fileText } from "./views.ts";
import { componentKind, machine } from "./words.ts";

/** Equal to the import room's formats. */
const imageFormat = z.enum(["raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi"]);

export const importInput = z.strictObject({
  /** Absolute, on the agent's host. */
  path: z.string().min(1).max(4096),
  /** Of the machine; a dry run needs none. */
  name: name.exactOptional(),
  /** Absent: told by the image's magic number. */
  format: imageFormat.exactOptional(),
  /** Directories beside the image's own that may hold what its headers name. */
  backing: list(z.string().min(1).max(4096)).exactOptional(),
  /** Number of the partition with the system, where several hold one. */
  partition: z.int().min(0).max(4096).exactOptional(),
  /** Of an OVA or a domain with several disks: the one with the system, as it is named there. */
  disk: z.string().min(1).max(4096).exactOptional(),
  /** The domain of libvirt that the image belongs to, as XML; it tells processors and memory. */
  domain: fileText.exactOptional(),
  /** A kernel component to start the machine with, in place of the image's kernel. */
  kernel: name.exactOptional(),
  cpus: z.int().min(1).max(255).exactOptional(),
  memoryBytes: bytes.exactOptional(),
  /** Of the user data block; by default as large as the image's file systems. */
  dataBytes: bytes.exactOptional(),
  ports: list(
    z.strictObject({ name, guest: port, host: z.int().min(0).max(65535).exactOptional() }),
  ).exactOptional(),
  /** Only tells what would become of the image. */
  dryRun: z.boolean().exactOptional(),
});

/** Equal to the import room's ImportProgress. */
export const importProgress = z.object({
  step: z.enum(["read", "classify", "components", "user-data", "prove"]),
  detail: text,
  done: z.number().min(0).exactOptional(),
  total: z.number().min(0).exactOptional(),
});

const classSum = z.object({ files: count, bytes });

/** Equal to the import room's ImportSurvey. */
export const importSurvey = z.object({
  description: z
    .object({
      kind: z.enum(["ovf", "libvirt"]),
      name: text,
      cpus: count.exactOptional(),
      memoryBytes: bytes.exactOptional(),
      notCarried: list(text),
    })
    .exactOptional(),
  format: imageFormat,
  sizeBytes: bytes,
  allocatedBytes: bytes,
  distribution: text,
  kernelRelease: text.exactOptional(),
  volumes: list(
    z.object({ number: count, sizeBytes: bytes, kind: text, mountedAt: text.exactOptional() }),
  ),
  leftFstab: list(text),
  classes: z.object({ kernel: classSum, os: classSum, program: classSum, userData: classSum }),
  packages: z.object({ count, bytes, intactBytes: bytes, unread: text.exactOptional() }),
  parts: list(
    z.object({
      kind: componentKind,
      name: text,
      version: text,
      packages: count,
      files: count,
      bytes,
      id: digest,
      held: z.boolean(),
    }),
  ),
});

/** Equal to the import room's ImportProof. */
export const importProof = z.object({
  entries: count,
  bytes,
  imageDigest: digest,
  composedDigest: digest,
  added: list(text),
});

/** What a migration of the machine would move, before compression. */
const moves = z.object({
  /** Of the image as it is: its allocated bytes. */
  imageBytes: bytes,
  /** To a cloud that holds no component of it, and to one that holds them all. */
  worstBytes: bytes,
  bestBytes: bytes,
  /** To the clouds of the federation, as far as their offers tell what they hold. */
  clouds: list(z.object({ cloud: text, held: count, bytes })),
});

export const importResult = z.object({
  survey: importSurvey,
  moves,
  /** Absent for a dry run, as the proof. */
  machine: machine.exactOptional(),
  proof: importProof.exactOptional(),
  /** What went wrong beside, for people. */
  remarks: list(text).exactOptional(),
});

/** What an import is told beside the image: by the OVA that it is in, or by a domain of libvirt. */
import { basename } from "node:path";
import { openFileDevice } from "#block";
import type { World } from "#core";
import type { ImportRequest } from "../contract.ts";
import { unsupported } from "../errors.ts";
import { detectFormat, type ImageFormat } from "../format.ts";
import { chooseDisk, noteOf, type MachineDescription } from "./description.ts";
import { readDomain } from "./domain.ts";
import { readOva } from "./ova.ts";

export interface DescribedImage {
  readonly description?: MachineDescription;
  readonly format?: ImageFormat;
  /** The part of the file that is the image; absent for the whole. */
  readonly window?: { readonly offset: number; readonly sizeBytes: number };
}

type Described = Pick<ImportRequest, "path" | "format" | "disk" | "domain" | "signal">;

/** A domain's disk is the image by its name; the only one is, whatever it is called there. */
function byDomain({ path, format, disk, domain }: Described): DescribedImage {
  const { text = "", fileName = "" } = domain ?? {};
  const { disks, ...description } = readDomain(text, fileName);
  const sameName = disks.find(({ file }) => basename(file) === basename(path))?.file;
  const wanted = disk ?? (disks.length > 1 ? sameName : undefined);
  const chosen = chooseDisk(fileName, disks, wanted);
  const others = disks
    .filter((item) => item !== chosen)
    .map(({ file }) => noteOf(`disk "${file}"`));
  const stated = format ?? chosen.format;
  return {
    description: { ...description, notCarried: [...others, ...description.notCarried] },
    ...(stated === undefined ? {} : { format: stated }),
  };
}

/**
 * @throws `import.image-damaged` (corrupt), `import.unsupported`, `import.disk-ambiguous`,
 *   `import.disk-not-found` (misuse), `system.not-found`
 */
export async function describeImage(world: World, request: Described): Promise<DescribedImage> {
  const { path, format, disk, domain, signal } = request;
  if (domain !== undefined) return byDomain(request);
  if (format !== undefined) return { format };
  const file = await openFileDevice(world, path, { readOnly: true });
  try {
    if ((await detectFormat(file, path)) === "tar") {
      const { description, disk: window } = await readOva(file, disk, path, signal);
      return { description, window };
    }
  } finally {
    await file.close();
  }
  if (disk === undefined) return {};
  throw unsupported(path, "a choice of disks", "leave --disk out: the image is one disk");
}

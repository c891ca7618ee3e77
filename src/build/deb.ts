import { TesseraError, type World } from "#core";
import { runChecked } from "./commands.ts";
import { parseStanzas, type Stanza } from "./stanzas.ts";

const REMEDY = "delete the build cache and build again";

/** The control record of a package file (deb-control(5)). */
export async function readControl(world: World, path: string): Promise<Stanza> {
  const { output } = await runChecked(world, "dpkg-deb", ["--field", path], {
    code: "build.package-unreadable",
    remedy: REMEDY,
  });
  const [stanza] = parseStanzas(Buffer.from(output).toString("utf8"));
  if (stanza !== undefined) return stanza;
  throw unreadable(path);
}

/** Unpacks a package's files below `directory`, which exists. */
export async function unpackFiles(world: World, path: string, directory: string): Promise<void> {
  await runChecked(world, "dpkg-deb", ["--extract", path, directory], {
    code: "build.package-unreadable",
    remedy: REMEDY,
  });
}

/** Writes a package's files as a tar. */
export async function writeFilesTar(world: World, path: string, tarPath: string): Promise<void> {
  await runChecked(world, "dpkg-deb", ["--fsys-tarfile", path], {
    code: "build.package-unreadable",
    remedy: REMEDY,
    outputFile: tarPath,
  });
}

/**
 * When the package was built, in seconds since the Unix epoch: the time of the first member of
 * the archive (deb(5)), which Debian sets from the change log, as it does for the files inside.
 */
export async function packageTime(world: World, path: string): Promise<number> {
  const file = await world.files.open(path, "read");
  try {
    const bytes = new Uint8Array(68);
    await file.read(bytes, 0);
    const text = Buffer.from(bytes).toString("latin1");
    const time = /^!<arch>\n.{16}(\d{1,12}) */.exec(text)?.[1];
    if (time === undefined) throw unreadable(path);
    return Number(time);
  } finally {
    await file.close();
  }
}

function unreadable(path: string): TesseraError {
  return new TesseraError("corrupt", "build.package-unreadable", `${path} is no Debian package`, {
    subject: path,
    remedy: REMEDY,
  });
}

/** Container images, from a path or a registry, as components. */
import { isAbsolute, join } from "node:path";
import type { Input } from "#api";
import { TesseraError, type Component } from "#core";
import { addContainerImage } from "#import";
import { fetchContainerImage } from "#registry";
import type { Parts } from "./handlers/parts.ts";
import { placeOf } from "./handlers/registries.ts";

type Source = Extract<Input<"component.add">["source"], { from: "container" }>;

interface Added {
  readonly components: Component[];
  readonly remarks: string[];
}

/**
 * @throws `agent.path-relative`, `agent.path-missing`, `agent.signature-refused` (misuse), and what
 *   fetching the image and making components throw
 */
export async function addContainer(
  parts: Parts,
  source: Source,
  signal: AbortSignal,
): Promise<Added> {
  const { world, store, layout } = parts;
  // The name of what an import needs meanwhile: an agent that starts removes it.
  const directory = join(layout.work, `import-${world.random.uuid()}`);
  await world.files.makeDirectory(directory, 0o700);
  try {
    const path = await pathOf(parts, source, directory, signal);
    const { tag, name, version } = source;
    const { components, remarks } = await addContainerImage(world, store, {
      path,
      platform: platformOf(source),
      layers: source.layers === true,
      directory,
      signal,
      ...(tag === undefined ? {} : { tag }),
      ...(name === undefined ? {} : { name }),
      ...(version === undefined ? {} : { version }),
    });
    return { components: [...components], remarks: [...remarks] };
  } finally {
    await world.files.removeTree(directory);
  }
}

async function pathOf(
  parts: Parts,
  source: Source,
  directory: string,
  signal: AbortSignal,
): Promise<string> {
  const { world } = parts;
  if (source.path.startsWith("oci://")) {
    const at = placeOf(source.path, source.access ?? {});
    requireUnjudged(parts, at.target.host);
    const image = join(directory, "image");
    await world.files.makeDirectory(image, 0o700);
    const wish = { ...at, platform: platformOf(source), directory: image };
    await fetchContainerImage(world, wish, { signal });
    return image;
  }
  if (!isAbsolute(source.path)) throw relative(source.path);
  const kind = (await world.files.status(source.path))?.kind;
  if (kind === "file" || kind === "directory") return source.path;
  throw new TesseraError("misuse", "agent.path-missing", `no container image at ${source.path}`, {
    subject: source.path,
    remedy: "give a directory or an archive on the agent's host, or oci://…",
  });
}

function platformOf({ platform = "linux/amd64" }: Source) {
  const [os = "", architecture = "", variant] = platform.split("/");
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** Container images have no signatures of components: a source that needs them gives none. */
function requireUnjudged({ signers }: Parts, host: string): void {
  if (!signers.requires(host)) return;
  const message = `this cloud requires signatures from ${host}, which container images do not have`;
  throw new TesseraError("misuse", "agent.signature-refused", message, {
    subject: host,
    remedy: 'change "signatures" in cloud.yaml, or copy the image to a layout after judging it',
  });
}

function relative(path: string): TesseraError {
  return new TesseraError("misuse", "agent.path-relative", `${path} is not absolute`, {
    subject: path,
    remedy: "give the absolute path of the image",
  });
}

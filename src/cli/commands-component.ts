/** `tessera component …`: the repository. */
import { basename, resolve } from "node:path";
import { OPERATIONS, type Input, type ProgressOf } from "#api";
import { TesseraError, formatBytes } from "#core";
import { Option, type Command } from "commander";
import {
  addRegistryCommands,
  readAccess,
  withAccess,
  type RegistryFlags,
} from "./commands-registry.ts";
import { lockPath, readRecipe } from "./recipes.ts";
import { renderCollect, renderComponent, renderComponents, renderVerify } from "./render-lists.ts";
import { act, leaf, type Bench, type Session } from "./session.ts";
import type { Surroundings } from "./surroundings.ts";
import { readIfThere, readJson, writeText } from "./texts.ts";
import { printable } from "./values.ts";

export function addComponentCommands(root: Command, bench: Bench): void {
  const component = root.command("component").description("components: the parts of machines");
  addBuild(component, bench);
  addAdd(component, bench);
  addReading(component, bench);
  addRemoving(component, bench);
  addRegistryCommands(component, bench);
}

function addBuild(component: Command, bench: Bench): void {
  const build = leaf(component, "build <recipe>", {
    summary: "build a component from a recipe; its lock lies beside it",
    examples: [
      "tessera component build examples/components/debian-12.yaml",
      "tessera component build examples/components/nginx.yaml --relock    (take newer packages)",
    ],
  }).option("--relock", "resolve package versions anew and replace the lock");
  act<{ relock?: boolean }>(bench, build, async (session, [file = ""], { relock }) => {
    const path = resolve(bench.surroundings.directory, file);
    const recipe = await readRecipe(path);
    const view = session.progress(renderBuild);
    const input = { ...recipe, ...(relock === true ? { relock } : {}) };
    const result = await session.call("component.build", input, { progress: view.show });
    view.end();
    const newLock = (await readIfThere(lockPath(path))) !== result.lock;
    if (newLock) await writeText(lockPath(path), result.lock);
    if (newLock) session.remark(`wrote ${basename(lockPath(path))}\n`);
    remarkAll(session, result);
    session.print(result, (value) => renderComponents([value.component]));
  });
}

function renderBuild(
  { step, detail, done, total }: ProgressOf<"component.build">,
  columns: number,
) {
  const figures = done === undefined || total === undefined ? "" : ` ${done} of ${total}`;
  const line = printable(`${step}:${figures} ${detail}`).replaceAll(/[\n\t]/g, " ");
  return [line.slice(0, Math.max(1, columns - 1))];
}

interface AddOptions extends RegistryFlags {
  readonly fromOci?: string;
  readonly tag?: string;
  readonly platform?: string;
  readonly name?: string;
  readonly componentVersion?: string;
  readonly layers?: boolean;
  readonly image?: string;
  readonly description?: string;
  readonly fragments?: string;
  readonly oci?: string;
}

function addAdd(component: Command, bench: Bench): void {
  const add = leaf(component, "add", {
    summary: "add components that were made elsewhere",
    examples: [
      "tessera component add --image nginx.erofs --description nginx.json",
      "tessera component add --oci ./layout    (every component of an OCI image layout)",
      "tessera component add --from-oci oci://registry.example/debian:12 --name debian-12-oci",
      "tessera component add --from-oci ./saved.tar --layers    (layers as components)",
    ],
  })
    .addOption(new Option("--image <file>", "an EROFS image").conflicts("oci"))
    .option("--description <file>", "with --image: its description (JSON)")
    .option("--fragments <file>", "with --image: its fragments of shared files (JSON)")
    .option("--oci <directory>", "an OCI image layout with components")
    .addOption(
      new Option(
        "--from-oci <image>",
        "a container image: oci://…, a directory with an OCI layout, or an archive of docker save",
      ).conflicts(["oci", "image"]),
    )
    .option("--layers", "with it: layers become components of their own where that is sound")
    .option("--name <name>", "with it: of the OS component, in place of the image's name")
    .option("--component-version <version>", "with it: in place of the image's version")
    .option("--tag <tag>", "with it: which image, where a layout or an archive has several")
    .option("--platform <os/architecture>", "with it: default linux/amd64");
  withAccess(add);
  act<AddOptions>(bench, add, async (session, _, options) => {
    const input = await readSource(bench.surroundings, options);
    const result = await session.call("component.add", input);
    remarkAll(session, result);
    session.print(result, ({ components }) => renderComponents(components));
  });
}

/** A path of who asks is made absolute; a reference stays. */
async function readContainer(
  surroundings: Surroundings,
  from: string,
  options: AddOptions,
): Promise<Input<"component.add">> {
  const { tag, platform, name, componentVersion: version, layers } = options;
  const remote = from.startsWith("oci://");
  return {
    source: {
      from: "container",
      path: remote ? from : resolve(surroundings.directory, from),
      ...(remote ? { access: await readAccess(surroundings, options) } : {}),
      ...(tag === undefined ? {} : { tag }),
      ...(platform === undefined ? {} : { platform }),
      ...(name === undefined ? {} : { name }),
      ...(version === undefined ? {} : { version }),
      ...(layers === true ? { layers } : {}),
    },
  };
}

async function readSource(
  surroundings: Surroundings,
  options: AddOptions,
): Promise<Input<"component.add">> {
  const { image, description, fragments, oci, fromOci } = options;
  const at = (path: string): string => resolve(surroundings.directory, path);
  if (fromOci !== undefined) return await readContainer(surroundings, fromOci, options);
  if (oci !== undefined) return { source: { from: "oci-layout", path: at(oci) } };
  if (image === undefined || description === undefined) {
    throw new TesseraError("misuse", "cli.usage", "nothing to add", {
      remedy: "give --image and --description, or --oci, or --from-oci",
    });
  }
  const source = {
    from: "image",
    path: at(image),
    description: await readJson(at(description)),
    ...(fragments === undefined ? {} : { fragments: await readJson(at(fragments)) }),
  };
  const parsed = OPERATIONS["component.add"].input.safeParse({ source });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.slice(1).map(String).join(".") ?? "";
  throw new TesseraError("misuse", "cli.description-invalid", `${where}: ${issue?.message}`, {
    subject: at(description),
    remedy: "doc/openapi.json has the form, as ComponentDescription",
  });
}

interface ListOptions {
  readonly kind?: "kernel" | "os" | "program";
  readonly upstream?: boolean;
}

/** What failed beside, such as sending to the upstream. */
function remarkAll(
  session: Session,
  { remarks = [] }: { readonly remarks?: readonly string[] },
): void {
  for (const remark of remarks) session.remark(`${printable(remark)}\n`);
}

function addReading(component: Command, bench: Bench): void {
  const list = leaf(component, "ls", {
    summary: "the repository's components",
    examples: [
      "tessera component ls",
      "tessera component ls --kind os --json",
      "tessera component ls --upstream    (of the registry that cloud.yaml names)",
    ],
  })
    .alias("list")
    .addOption(
      new Option("--kind <kind>", "only of this kind").choices(["kernel", "os", "program"]),
    )
    .option("--upstream", "what the cloud's upstream registry has");
  act<ListOptions>(bench, list, async (session, _, { kind, upstream }) => {
    const input = {
      ...(kind === undefined ? {} : { kind }),
      ...(upstream === true ? { upstream } : {}),
    };
    const result = await session.call("component.list", input);
    session.print(result, ({ components }) => renderComponents(components));
  });
  const show = leaf(component, "show <component>", {
    summary: "one component, by name, name@version, kind/name, digest or its first digits",
    examples: ["tessera component show nginx", "tessera component show os/debian-12@12.8"],
  });
  act(bench, show, async (session, [name = ""]) => {
    session.print(await session.call("component.show", { component: name }), renderComponent);
  });
  const verify = leaf(component, "verify [component]", {
    summary: "read and hash one component, or all; exit code 6 when something is corrupt",
    examples: [
      "tessera component verify",
      "tessera component verify nginx",
      "tessera component verify nginx --signed-by builders",
    ],
  }).option("--signed-by <signer>", "exit code 3 unless this signer's signature is valid");
  act<{ signedBy?: string }>(bench, verify, async (session, [name], { signedBy }) => {
    const input = {
      ...(name === undefined ? {} : { component: name }),
      ...(signedBy === undefined ? {} : { signedBy }),
    };
    const report = await session.call("component.verify", input);
    session.print(report, renderVerify);
    const broken = report.signatures?.some(({ valid }) => valid === false) ?? false;
    return report.findings.length === 0 && !broken ? 0 : 6;
  });
}

function addRemoving(component: Command, bench: Bench): void {
  const remove = leaf(component, "rm <component...>", {
    summary: "remove components that nothing uses",
    examples: ["tessera component rm nginx@1.22.1-9", "tessera component gc    (frees the bytes)"],
  });
  act(bench, remove, async (session, names) => {
    const removed: string[] = [];
    for (const name of names) {
      const result = await session.call("component.remove", { component: name ?? "" });
      removed.push(result.removed);
    }
    session.print({ removed }, (value) => value.removed.map((id) => `removed ${id}\n`).join(""));
  });
  const collect = leaf(component, "gc", {
    summary: "remove blobs that no component names",
    examples: ["tessera component gc --dry-run", "tessera component gc"],
  }).option("--dry-run", "only say what would be removed");
  act<{ dryRun?: boolean }>(bench, collect, async (session, _, { dryRun }) => {
    const input = dryRun === true ? { dryRun } : {};
    const report = await session.call("component.collect", input);
    session.print(report, renderCollect);
    if (report.dryRun) session.remark(`${formatBytes(report.bytes)} can be freed\n`);
  });
}

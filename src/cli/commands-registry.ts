/** `tessera component push`, `pull` and `sign`. */
import { join, resolve } from "node:path";
import type { Input, ProgressOf } from "#api";
import { formatBytes, shortDigest } from "#core";
import type { Command } from "commander";
import { renderComponents } from "./render-lists.ts";
import { act, leaf, type Bench } from "./session.ts";
import type { Surroundings } from "./surroundings.ts";
import { readIfThere, readText } from "./texts.ts";
import { printable } from "./values.ts";

export interface RegistryFlags {
  readonly username?: string;
  readonly passwordFile?: string;
  readonly authFile?: string;
  readonly caFile?: string;
  readonly plainHttp?: boolean;
}

export function addRegistryCommands(component: Command, bench: Bench): void {
  const push = withAccess(
    leaf(component, "push <component> <registry>", {
      summary: "send a component to an OCI registry; what is there already does not travel",
      examples: [
        "tessera component push nginx oci://registry.example/cloud/nginx",
        "tessera component push nginx oci://registry.example/cloud/nginx:stable --username ci --password-file ./secret",
      ],
    }),
  );
  act<RegistryFlags>(bench, push, async (session, [name = "", to = ""], flags) => {
    const access = await readAccess(bench.surroundings, flags);
    const view = session.progress(renderCarrying);
    const input = { component: name, to, access };
    const result = await session.call("component.push", input, { progress: view.show });
    view.end();
    session.print(result, ({ reference, movedBytes }) => `${reference}: sent ${bytes(movedBytes)}`);
  });
  const pull = withAccess(
    leaf(component, "pull <registry>", {
      summary: "fetch a component from an OCI registry; goes on where an earlier pull was cut off",
      examples: [
        "tessera component pull oci://registry.example/cloud/nginx:1.22.1-9",
        "tessera component pull oci://10.0.0.5:5000/nginx:stable --plain-http",
      ],
    }),
  );
  addSign(component, bench);
  act<RegistryFlags>(bench, pull, async (session, [from = ""], flags) => {
    const access = await readAccess(bench.surroundings, flags);
    const view = session.progress(renderCarrying);
    const result = await session.call("component.pull", { from, access }, { progress: view.show });
    view.end();
    session.remark(`fetched ${bytes(result.movedBytes)}`);
    session.print(result, (value) => renderComponents([value.component]));
  });
}

function addSign(component: Command, bench: Bench): void {
  const sign = leaf(component, "sign <component>", {
    summary: "sign a component; other clouds may require that",
    examples: [
      "tessera component sign nginx    (with this cloud's own signing key)",
      "tessera component sign nginx --key ./builders.pem",
    ],
  }).option("--key <file>", "an Ed25519 private key as PEM");
  act<{ key?: string }>(bench, sign, async (session, [name = ""], { key }) => {
    const path = key === undefined ? undefined : resolve(bench.surroundings.directory, key);
    const pem = path === undefined ? {} : { key: await readText(path) };
    const result = await session.call("component.sign", { component: name, ...pem });
    for (const remark of result.remarks ?? []) session.remark(`${printable(remark)}\n`);
    session.print(
      result,
      (value) => `signed ${value.component}\nby ${value.key}\n${value.publicKey}`,
    );
  });
}

export function withAccess(command: Command): Command {
  return command
    .option("--username <name>", "user at the registry, with --password-file")
    .option("--password-file <file>", "a file that holds nothing but the password")
    .option("--auth-file <file>", "credentials as docker and skopeo keep them (config.json)")
    .option("--ca-file <file>", "PEM of the authority that signs the registry's certificate")
    .option("--plain-http", "without TLS, to a registry that is not on this host");
}

/** The files of who asks, since the agent may not see them. */
export async function readAccess(
  surroundings: Surroundings,
  { username, passwordFile, authFile, caFile, plainHttp }: RegistryFlags,
): Promise<Input<"component.pull">["access"]> {
  const at = (path: string): string => resolve(surroundings.directory, path);
  const password = passwordFile === undefined ? undefined : await readText(at(passwordFile));
  const auths =
    authFile === undefined
      ? await readIfThere(join(authDirectory(surroundings), "config.json"))
      : await readText(at(authFile));
  const ca = caFile === undefined ? undefined : await readText(at(caFile));
  return {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password: password.replace(/\r?\n$/, "") }),
    ...(auths === undefined || username !== undefined ? {} : { authFile: auths }),
    ...(ca === undefined ? {} : { ca }),
    ...(plainHttp === true ? { plainHttp } : {}),
  };
}

/** Where docker and skopeo look. */
function authDirectory({ environment, home }: Surroundings): string {
  return environment["DOCKER_CONFIG"] || join(home, ".docker");
}

function bytes(count: number): string {
  return `${count === 0 ? "nothing, as all is there" : formatBytes(count)}\n`;
}

function renderCarrying({ blob, doneBytes, totalBytes }: ProgressOf<"component.pull">): string[] {
  return [`${shortDigest(blob)}: ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`];
}

import type { Handlers, Input } from "#api";
import { TesseraError } from "#core";
import {
  credentialsIn,
  parseReference,
  pullComponent,
  pushComponent,
  type RegistryAccess,
  type RegistryReference,
} from "#registry";
import type { Parts } from "./parts.ts";

type RegistryOperations = Pick<Handlers, "component.push" | "component.pull">;

export function registryHandlers(parts: Parts): RegistryOperations {
  const { world, store } = parts;
  return {
    "component.push": async ({ component, to, access }, { signal, progress }) => {
      const at = placeOf(to, access);
      const options = { signal, onProgress: progress };
      return await pushComponent(world, store, await store.resolve(component), at, options);
    },
    "component.pull": async ({ from, access }, { signal, progress }) => {
      const at = placeOf(from, access);
      const { host } = at.target;
      const carried = await pullComponent(world, store, at, {
        signal,
        onProgress: progress,
        admits: (offered, signatures) =>
          parts.signers.require(host, { ...offered, name: from }, signatures),
      });
      await parts.offerChanged();
      return carried;
    },
  };
}

interface Place {
  readonly target: RegistryReference;
  readonly access: RegistryAccess;
}

/** Where a reference leads, and how. @throws `registry.reference-invalid` (misuse) */
export function placeOf(text: string, input: Input<"component.pull">["access"]): Place {
  const target = parseReference(text);
  const { ca, plainHttp } = input;
  const credentials = credentialsOf(target, input);
  return {
    target,
    access: {
      ...(credentials === undefined ? {} : { credentials }),
      ...(ca === undefined ? {} : { ca }),
      ...(plainHttp === undefined ? {} : { plainHttp }),
    },
  };
}

/** User and password as told, else what the file has for this host. */
function credentialsOf(
  target: RegistryReference,
  { username, password, authFile }: Input<"component.pull">["access"],
): RegistryAccess["credentials"] {
  if (username !== undefined && password !== undefined) return { username, password };
  if (username !== undefined || password !== undefined) {
    throw new TesseraError("misuse", "agent.credentials-incomplete", "a user needs a password", {
      remedy: "give --username and --password-file together",
    });
  }
  return authFile === undefined ? undefined : credentialsIn(authFile, target);
}

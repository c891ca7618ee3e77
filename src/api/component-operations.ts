/** The operations on components. */
import * as z from "zod";
import type { Operation } from "./operation.ts";
import { digest, list, name } from "./scalars.ts";
import * as view from "./views.ts";
import * as word from "./words.ts";

const optionalTrue = z.boolean().exactOptional();

export const componentOperations = {
  "component.list": {
    method: "GET",
    path: "/v1/components",
    summary: "The repository's components",
    input: z.strictObject({
      kind: view.kind.exactOptional(),
      /** What the cloud's upstream registry has, in place of what is held. */
      upstream: optionalTrue,
    }),
    result: z.object({ components: list(word.component) }),
  },
  "component.show": {
    method: "GET",
    path: "/v1/components/{component}",
    summary: "One component by name, name@version, kind/name, digest or its first digits",
    input: z.strictObject({ component: name }),
    result: z.object({ component: word.component, pinnedBy: list(z.string()) }),
  },
  "component.build": {
    method: "POST",
    path: "/v1/components/build",
    summary: "Builds a component from a recipe and adds it",
    input: z.strictObject({
      recipe: view.fileText,
      /** Absent: package versions are resolved, and the answer's lock is new. */
      lock: view.fileText.exactOptional(),
      /** The recipes that this one stands on, with their locks, lowest first. */
      bases: list(view.lockedRecipe),
      /** Resolve package versions anew although a lock is given. */
      relock: optionalTrue,
    }),
    progress: view.buildProgress,
    result: view.built,
  },
  "component.add": {
    method: "POST",
    path: "/v1/components",
    summary: "Adds components from an EROFS image or from an OCI image layout",
    input: z.strictObject({ source: view.componentSource }),
    result: z.object({ components: list(word.component), remarks: view.remarks }),
  },
  "component.push": {
    method: "POST",
    path: "/v1/components/push",
    summary: "Sends a component to an OCI registry",
    input: z.strictObject({
      component: name,
      to: view.registryReference,
      access: view.registryAccess,
    }),
    progress: view.registryProgress,
    result: view.carried,
  },
  "component.pull": {
    method: "POST",
    path: "/v1/components/pull",
    summary: "Fetches a component from an OCI registry",
    input: z.strictObject({ from: view.registryReference, access: view.registryAccess }),
    progress: view.registryProgress,
    result: view.carried,
  },
  "component.verify": {
    method: "POST",
    path: "/v1/components/verify",
    summary: "Reads and hashes one component or all",
    input: z.strictObject({
      component: name.exactOptional(),
      /** Refuse the component unless this signer's signature of it is valid. */
      signedBy: name.exactOptional(),
    }),
    result: view.verified,
  },
  "component.sign": {
    method: "POST",
    path: "/v1/components/sign",
    summary: "Signs a component with this cloud's key, or with one that is given",
    input: z.strictObject({
      component: name,
      /** Ed25519 private key, PKCS #8 PEM. */
      key: z.string().max(16_384).exactOptional(),
    }),
    result: view.signed,
  },
  "component.remove": {
    method: "DELETE",
    path: "/v1/components/{component}",
    summary: "Removes a component that nothing uses",
    input: z.strictObject({ component: name }),
    result: z.object({ removed: digest }),
  },
  "component.collect": {
    method: "POST",
    path: "/v1/components/collect",
    summary: "Removes blobs that no component names",
    input: z.strictObject({ dryRun: optionalTrue }),
    result: view.collectReport,
  },
} as const satisfies Record<string, Operation>;

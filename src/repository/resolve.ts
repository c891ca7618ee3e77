import {
  COMPONENT_KINDS,
  compareDebianVersions,
  shortDigest,
  TesseraError,
  type Component,
} from "#core";
import { componentUnknown } from "./failures.ts";

const DIGITS = /^(?:sha256:)?([0-9a-f]{8,64})$/;
const NAME = /^(?:(?<kind>[a-z]+)\/)?(?<name>[^/@]+)(?:@(?<version>[^/@]+))?$/;

/** The component that a text of `ComponentStore.resolve` means. A name goes before digits. */
export function selectComponent(components: readonly Component[], text: string): Component {
  const named = newest(components.filter(matcher(text)));
  const digits = DIGITS.exec(text)?.[1];
  const found =
    named.length > 0 || digits === undefined
      ? named
      : components.filter(({ id }) => id.startsWith(`sha256:${digits}`));
  const [first] = found;
  if (first === undefined) throw componentUnknown(text);
  if (found.length > 1) throw ambiguous(text, found);
  return first;
}

function matcher(text: string): (component: Component) => boolean {
  const { kind, name, version } = NAME.exec(text)?.groups ?? {};
  if (name === undefined || (kind !== undefined && !isKind(kind))) return () => false;
  return ({ description }) =>
    description.name === name &&
    (kind === undefined || description.kind === kind) &&
    (version === undefined || description.version === version);
}

function isKind(text: string): boolean {
  return COMPONENT_KINDS.some((kind) => kind === text);
}

/** Those of the highest version of each kind: kinds and equal versions are for the user to tell. */
function newest(components: readonly Component[]): Component[] {
  return components.filter(({ description }) =>
    components.every(
      (other) =>
        other.description.kind !== description.kind ||
        compareDebianVersions(other.description.version, description.version) <= 0,
    ),
  );
}

function ambiguous(text: string, found: readonly Component[]): TesseraError {
  const names = found.map(({ id, description: { kind, name, version, architecture } }) => {
    return `${kind}/${name}@${version} ${architecture} ${shortDigest(id)}`;
  });
  const message = `"${text}" means more than one component: ${names.join(", ")}`;
  return new TesseraError("misuse", "repository.component-ambiguous", message, {
    subject: text,
    remedy: "add the kind and the version, or give the first digits of the digest",
  });
}

/** What a registry has: repositories, tags, and the components behind them. */
import * as z from "zod";
import { hasCode, type Component, type ComponentSignature, type World } from "#core";
import {
  decodeDescription,
  INDEX_TYPE,
  MANIFEST_BYTES_MAX,
  MANIFEST_TYPE,
  readManifest,
} from "#repository";
import type { RegistryAccess, RegistryOptions, RegistryReference } from "./contract.ts";
import { readBlob } from "./download.ts";
import { noCatalogue, protocolBroken } from "./errors.ts";
import { findManifest, type FetchedManifest } from "./manifests.ts";
import { Session } from "./session.ts";
import { findSignatures } from "./signatures.ts";
import { wrongStatus } from "./upload.ts";

const PAGE_BYTES_MAX = 2 ** 20;
const PAGES_MAX = 64;
const NAMES_MAX = 10_000;
/** Tags of one repository whose manifests are read. */
const TAGS_MAX = 128;

/** Other things that lie in registries: they are told apart, and left alone. */
const OTHER_TYPES: readonly string[] = [
  INDEX_TYPE,
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

const tagList = z.looseObject({ tags: z.array(z.string().max(256)).nullish() });
const catalogue = z.looseObject({ repositories: z.array(z.string().max(512)).nullish() });

/** A component that a registry has, described by its manifest and configuration. */
export interface ListedComponent {
  readonly component: Component;
  readonly signatures: readonly ComponentSignature[];
}

interface Place {
  readonly target: Pick<RegistryReference, "host" | "name">;
  readonly access: RegistryAccess;
}

/**
 * The repositories of a registry below `PREFIX/`, by the catalogue, which not every registry offers.
 *
 * @throws `registry.catalogue-missing`, `registry.access-refused`, `registry.protocol`,
 *   `registry.unreachable`
 */
export async function listRepositories(
  world: World,
  { target: { host, name: prefix }, access }: Place,
  options: RegistryOptions = {},
): Promise<string[]> {
  const target = { host, name: prefix, writes: false, scope: "registry:catalog:*" };
  const session = new Session(world, target, access, options);
  try {
    const names = await pages(
      session,
      "/v2/_catalog?n=500",
      (text) => decode(session, catalogue, text).repositories ?? [],
    );
    if (names === undefined) throw noCatalogue(host);
    return names.filter((name) => name.startsWith(`${prefix}/`));
  } finally {
    session.close();
  }
}

/**
 * The components that the tags of one repository lead to; what is no component is passed over. At
 * most the last 128 tags are followed. Empty where there is no such repository.
 *
 * @throws `registry.access-refused`, `registry.protocol`, `registry.unreachable`
 */
export async function listComponents(
  world: World,
  { target: { host, name }, access }: Place,
  options: RegistryOptions = {},
): Promise<ListedComponent[]> {
  const session = new Session(world, { host, name, writes: false }, access, options);
  try {
    const tags = await tagsOf(session);
    const found = new Map<string, ListedComponent>();
    for (const tag of tags.filter(isOfPeople).slice(-TAGS_MAX)) {
      const listed = await describe(session, tag, found);
      if (listed !== undefined) found.set(listed.component.manifest.digest, listed);
    }
    return [...found.values()];
  } finally {
    session.close();
  }
}

async function tagsOf(session: Session): Promise<string[]> {
  const read = (text: string) => decode(session, tagList, text).tags ?? [];
  return (await pages(session, "tags/list?n=1000", read)) ?? [];
}

/** Signatures and the like are tagged by the digest of what they are about. */
function isOfPeople(tag: string): boolean {
  return !/^sha256-[0-9a-f]{64}/.test(tag);
}

async function describe(
  session: Session,
  tag: string,
  known: ReadonlyMap<string, ListedComponent>,
): Promise<ListedComponent | undefined> {
  const fetched = await findManifest(session, {
    reference: tag,
    mediaTypes: [MANIFEST_TYPE, ...OTHER_TYPES],
    bytesMax: MANIFEST_BYTES_MAX,
  });
  if (fetched === undefined || fetched.mediaType !== MANIFEST_TYPE || known.has(fetched.digest)) {
    return undefined;
  }
  const component = await componentOf(session, fetched);
  if (component === undefined) return undefined;
  return { component, signatures: await findSignatures(session, component) };
}

/** Undefined for what is no component, or a damaged one. */
async function componentOf(
  session: Session,
  { digest, sizeBytes, content }: FetchedManifest,
): Promise<Component | undefined> {
  const manifest = { digest, sizeBytes };
  try {
    const { config, image, fragments } = readManifest(manifest, content);
    const description = decodeDescription(await readBlob(session, config));
    return { id: image.digest, sizeBytes: image.sizeBytes, fragments, manifest, description };
  } catch (error) {
    const foreign = ["repository.manifest-invalid", "repository.json-invalid"];
    if (foreign.some((code) => hasCode(error, code))) return undefined;
    throw error;
  }
}

/** Names page by page, as `Link` leads on (RFC 8288); undefined where there is no such list. */
async function pages(
  session: Session,
  first: string,
  read: (text: string) => readonly string[],
): Promise<string[] | undefined> {
  const names: string[] = [];
  let next: string | URL | undefined = first;
  for (let page = 0; page < PAGES_MAX && next !== undefined; page += 1) {
    const to: string | URL = next;
    const answer = await session.persistently(() => session.send({ method: "GET", to }));
    if (answer.status === 404) {
      answer.discard();
      return undefined;
    }
    if (answer.status !== 200) throw wrongStatus(session, answer, "asked for a list");
    names.push(...read(await answer.text(PAGE_BYTES_MAX)));
    if (names.length > NAMES_MAX) throw protocolBroken(session.host, "lists too many names");
    next = nextPage(answer.headers["link"], answer.url);
  }
  return names;
}

function nextPage(link: string | string[] | undefined, base: URL): URL | undefined {
  const [, target] = /<([^>]+)>\s*;\s*rel="?next"?/.exec(String(link ?? "")) ?? [];
  return target !== undefined && URL.canParse(target, base.href)
    ? new URL(target, base)
    : undefined;
}

function decode<T>(session: Session, schema: z.ZodType<T>, text: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw protocolBroken(session.host, "gives a list that is none", cause);
  }
}

/**
 * Asking the other members what components of a name they hold; specified in doc/gathering.md.
 *
 *     asker                                             another member
 *       | component-find {wanted: [{kind, name}]}  ->      |
 *       |      <- {components: [{reference, signatures}]}  |
 */
import * as z from "zod";
import { words } from "#api";
import {
  isDigest,
  referenceOf,
  reportOf,
  TesseraError,
  type ComponentReference,
  type ComponentSignature,
  type Digest,
  type Json,
  type World,
} from "#core";
import type { FederationTransport } from "#federation";
import type { ComponentStore } from "#repository";

const WANTED_MAX = 64;
/** Most components in one answer. */
const COMPONENTS_MAX = 128;
const ASKED_MAX = 16;
const ANSWER_MS = 3_000;

const digest = z.custom<Digest>(isDigest, "is not a sha256 digest");
export const signatureShape = z.object({
  key: digest,
  signature: z.string().regex(/^[A-Za-z0-9+/]{86}==$/, "is no signature"),
});

const wanted = z.object({ kind: words.componentKind, name: z.string().max(128) });
const question = z.object({
  version: z.number().int().min(1),
  wanted: z.array(wanted).min(1).max(WANTED_MAX),
});
const answer = z.object({
  components: z
    .array(
      z.object({
        reference: words.componentReference,
        signatures: z.array(signatureShape).max(16).optional(),
      }),
    )
    .max(COMPONENTS_MAX),
});

type Wanted = z.output<typeof wanted>;

/** A component that another cloud says to hold. */
export interface Found {
  readonly cloud: string;
  readonly reference: ComponentReference;
  readonly signatures: readonly ComponentSignature[];
}

function decode<T>(schema: z.ZodType<T>, from: string, body: Json): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const message = `${from} asks or answers badly for components: ${issue?.path.join(".") ?? ""} ${issue?.message ?? ""}`;
  throw new TesseraError("peer", "migration.message-invalid", message, { subject: from });
}

/** What this cloud tells. @throws `migration.message-invalid` (peer) */
export async function answerFind(
  store: ComponentStore,
  helps: boolean,
  from: string,
  body: Json,
): Promise<z.input<typeof answer>> {
  const { wanted: list } = decode(question, from, body);
  if (!helps) return { components: [] };
  const found = (await store.list()).filter(({ description: { kind, name } }) =>
    list.some((one) => one.kind === kind && one.name === name),
  );
  const components = await Promise.all(
    found.slice(-COMPONENTS_MAX).map(async (component) => ({
      reference: referenceOf(component),
      signatures: [...(await store.signatures(component.id))],
    })),
  );
  return { components };
}

interface Asker {
  readonly world: World;
  readonly transport: FederationTransport;
  /** True for a cloud that is not to be believed. */
  distrusts(cloud: string): boolean;
}

/** Asks the members that are present; who does not answer in time is left out. */
export async function findElsewhere(asker: Asker, list: readonly Wanted[]): Promise<Found[]> {
  if (list.length === 0) return [];
  const { world, transport } = asker;
  const body = { version: 1, wanted: list.slice(0, WANTED_MAX).map((one) => ({ ...one })) };
  const session = world.random.uuid();
  const asked = transport
    .peers()
    .filter(({ cloud, offer }) => !asker.distrusts(cloud) && offer?.repository.components !== 0)
    .slice(0, ASKED_MAX);
  const answers = await Promise.all(
    asked.map(async ({ cloud }) => {
      try {
        const message = { session, action: "component-find", body } as const;
        const { components } = decode(
          answer,
          cloud,
          await transport.request(cloud, message, ANSWER_MS),
        );
        return components
          .filter(({ reference: { kind, name } }) =>
            list.some((one) => one.kind === kind && one.name === name),
          )
          .map(({ reference, signatures = [] }) => ({ cloud, reference, signatures }));
      } catch (error) {
        world.log.log("info", "a cloud does not say what it holds", { cloud, ...reportOf(error) });
        return [];
      }
    }),
  );
  return answers.flat();
}

/** Signatures of a machine's components on their way. */
import { componentsOf, type Appliance, type ComponentReference } from "#core";
import { heldOf } from "./held.ts";
import type { Proposal } from "./messages.ts";
import type { DestinationPart } from "./record.ts";
import { refusal } from "./refusal.ts";
import type { MigrationTools } from "./tools.ts";

type Signatures = NonNullable<Proposal["signatures"]>;

/** What the repository keeps of an appliance's components. */
export async function signaturesOf(
  { store }: Pick<MigrationTools, "store">,
  appliance: Appliance,
): Promise<Signatures> {
  const lists = await Promise.all(
    componentsOf(appliance).map(async ({ id }) => {
      if ((await store.find(id)) === undefined) return [];
      return (await store.signatures(id)).map((one) => ({ component: id, ...one }));
    }),
  );
  return lists.flat();
}

interface Brought {
  readonly from: string;
  readonly appliance: Appliance;
  readonly signatures: Signatures | undefined;
}

/** Why components that are not held here are not taken from this cloud. */
export async function unsigned(
  tools: MigrationTools,
  { from, appliance, signatures = [] }: Brought,
): Promise<string[]> {
  const { signers } = tools;
  if (!signers.requires(from)) return [];
  const components = componentsOf(appliance);
  const held = new Set(await heldOf(tools, components));
  const objections = await Promise.all(
    components
      .filter(({ id }) => !held.has(id))
      .map((component) => {
        const named = { ...component, name: `${component.name} ${component.version}` };
        const own = signatures.filter((one) => one.component === component.id);
        return signers.objection(from, named, own);
      }),
  );
  return objections.filter((objection) => objection !== undefined);
}

/**
 * Asked again before anything is fetched: what was held at the proposal may be gone.
 *
 * @throws `migration.refused` (peer)
 */
export async function requireSigned(
  tools: MigrationTools,
  { peer, machine, appliance, signatures }: DestinationPart,
): Promise<void> {
  const reasons = await unsigned(tools, { from: peer, appliance, signatures });
  const [reason] = reasons;
  if (reason !== undefined) throw refusal(reason, machine.uuid, reasons);
}

/** So that they go on with the components to whoever takes these from here. */
export async function keepSignatures(
  { store }: MigrationTools,
  { signatures = [] }: DestinationPart,
  components: readonly ComponentReference[],
): Promise<void> {
  for (const { id } of components) {
    const own = signatures
      .filter(({ component }) => component === id)
      .map(({ key, signature }) => ({ key, signature }));
    if (own.length > 0) await store.addSignatures(id, { signatures: own, own: false });
  }
}

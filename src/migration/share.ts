import type { Plan, PlannedComponent } from "#core";
import { OVERHEAD } from "./plan.ts";

/**
 * Plans of machines that leave one after the other: a component that several bring to one cloud is
 * counted with the first of them. Pure.
 */
export function sharePlans(plans: readonly Plan[]): Plan[] {
  /** By cloud and component: the machine that brings it. */
  const bringers = new Map<string, string>();
  return plans.map((plan) => {
    const components = plan.components.map((planned) => shared(planned, plan, bringers));
    return withComponents(plan, components);
  });
}

function shared(
  planned: PlannedComponent,
  { destination, machine }: Plan,
  bringers: Map<string, string>,
): PlannedComponent {
  if (planned.held) return planned;
  const key = `${destination} ${planned.component.id}`;
  const bringer = bringers.get(key);
  if (bringer === undefined) bringers.set(key, machine);
  return bringer === undefined ? planned : { ...planned, bytes: 0, comesWith: bringer };
}

function withComponents(plan: Plan, components: readonly PlannedComponent[]): Plan {
  const saved = sum(plan.components) - sum(components);
  if (saved === 0) return { ...plan, components };
  const savedBytes = saved * (1 + OVERHEAD);
  const totalBytes = Math.max(0, Math.ceil(plan.totalBytes - savedBytes));
  const saved_ms = (savedBytes * 8 * 1000) / plan.rate.bitsPerSecond;
  return {
    ...plan,
    components,
    totalBytes,
    expected_ms: Math.max(0, Math.ceil(plan.expected_ms - saved_ms)),
    price: plan.totalBytes === 0 ? 0 : (plan.price * totalBytes) / plan.totalBytes,
  };
}

function sum(components: readonly PlannedComponent[]): number {
  return components.reduce((total, { bytes }) => total + bytes, 0);
}

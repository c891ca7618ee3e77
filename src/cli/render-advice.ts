/** Advice as a table with the reasons below each machine. Pure. */
import type { Output } from "#api";
import { printable } from "./values.ts";

export function renderAdvice({ policy, load, reason, machines }: Output<"advice.make">): string {
  const title = `Policy ${policy}: ${reason}; this cloud's load is ${(100 * load).toFixed(0)}%`;
  const parts = machines.map(({ name, to, reasons }) => {
    const head = to === undefined ? `${name}: stays` : `${name}: go to ${to}`;
    return [head, ...reasons.map((each) => `  ${each}`)]
      .map((line) => `${printable(line)}\n`)
      .join("");
  });
  const moves = machines.filter(({ to }) => to !== undefined);
  const commands = moves.map(({ name, to }) => `  tessera migrate ${name} --to ${to}\n`);
  const next = commands.length === 0 ? "" : `\nTo follow the advice:\n${commands.join("")}`;
  return `${printable(title)}\n${parts.length === 0 ? "no machine runs here\n" : `\n${parts.join("")}`}${next}`;
}

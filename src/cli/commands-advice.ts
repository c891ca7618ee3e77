/** `tessera advise`: which machines should go where, and why. */
import { Option, type Command } from "commander";
import type { Input } from "#api";
import { renderAdvice } from "./render-advice.ts";
import { act, leaf, type Bench } from "./session.ts";

const POLICIES = ["none", "least-loaded", "threshold", "selective"] as const;

export function addAdviseCommand(root: Command, bench: Bench): void {
  const advise = leaf(root, "advise", {
    summary: "which machines of this cloud should go to which other cloud, and why; nothing moves",
    examples: ["tessera advise", "tessera advise --policy threshold --json"],
  }).addOption(
    new Option("--policy <policy>", "how it is decided; see doc/placement.md")
      .choices(POLICIES)
      .default("selective"),
  );
  act<Input<"advice.make">>(bench, advise, async (session, _, { policy }) => {
    const input = policy === undefined ? {} : { policy };
    session.print(await session.call("advice.make", input), renderAdvice);
  });
}

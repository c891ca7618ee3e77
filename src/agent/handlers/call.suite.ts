/** Calls a cloud's operations as its API does, for the tests of the handlers. */
import type { Context, Handlers, Input, OperationName } from "#api";
import { hasCode } from "#core";
import type { TestCloud } from "../clouds.suite.ts";
import { createHandlers } from "./index.ts";
import type { Parts } from "./parts.ts";

export function call<N extends OperationName>(
  cloud: Pick<TestCloud, "parts">,
  name: N,
  input: Input<N>,
  changes: Partial<Parts> = {},
): ReturnType<Handlers[N]> {
  const { signal } = new AbortController();
  const context: Context<N> = { signal, progress: () => undefined };
  const handlers = createHandlers({ ...cloud.parts, ...changes });
  return handlers[name](input, context) as ReturnType<Handlers[N]>;
}

/** For `assert.rejects`. */
export const code = (text: string) => (error: unknown) => hasCode(error, text);

import { TesseraError, type Json } from "#core";

/** Deepest nesting of objects and lists in what a peer sends. */
const DEPTH_MAX = 32;

/** The deepest nesting of brackets outside strings; counts without recursion. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index];
    if (quoted) {
      if (character === "\\") index += 1;
      else if (character === '"') quoted = false;
    } else if (character === '"') quoted = true;
    else if (character === "{" || character === "[") deepest = Math.max(deepest, (depth += 1));
    else if (character === "}" || character === "]") depth -= 1;
  }
  return deepest;
}

/**
 * Parses JSON from a peer after checking its length and depth.
 *
 * @throws `federation.malformed`
 */
export function boundedJson(text: string, lengthMax: number): Json {
  if (text.length > lengthMax) throw malformed(`longer than ${lengthMax} characters`);
  if (depthOf(text) > DEPTH_MAX) throw malformed(`nested deeper than ${DEPTH_MAX}`);
  try {
    return JSON.parse(text) as Json;
  } catch (cause) {
    throw malformed("not JSON", cause);
  }
}

export function malformed(reason: string, cause?: unknown): TesseraError {
  return new TesseraError("peer", "federation.malformed", `a message is ${reason}`, { cause });
}

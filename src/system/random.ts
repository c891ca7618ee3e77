import { randomBytes, randomUUID } from "node:crypto";
import type { Random } from "#core";

/** The machine's cryptographic random source. */
export function realRandom(): Random {
  return {
    bytes: (length) => randomBytes(length),
    uuid: () => randomUUID(),
    fraction: () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48,
  };
}

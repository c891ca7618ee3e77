import { VarintReader as AnyVarintReader } from "#core";
import { violation } from "./errors.ts";

export { unzigzag, VarintWriter, zigzag } from "#core";

/** Reads numbers; what is no number is a `transfer.protocol-violation`. */
export class VarintReader extends AnyVarintReader {
  constructor(input: Uint8Array, at = 0) {
    super(input, at, violation);
  }
}

import type * as z from "zod";

export interface Operation {
  readonly method: "GET" | "POST" | "DELETE";
  /** Members of the input stand in braces. */
  readonly path: `/v1/${string}`;
  readonly summary: string;
  readonly input: z.ZodObject;
  readonly result: z.ZodType;
  /** Present for operations that stream. */
  readonly progress?: z.ZodType;
  /** Default `BODY_BYTES_MAX` of `operations.ts`. */
  readonly bodyBytesMax?: number;
}

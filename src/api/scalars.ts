/** Small schemas that the others are made of. */
import type { Digest } from "#core";
import * as z from "zod";

/** Types without `readonly`, so that only shapes are compared. */
type Plain<T> = T extends string | number | boolean | null | undefined
  ? T
  : { -readonly [K in keyof T]: Plain<T[K]> };

/** True only for identical types: the compiler compares the two conditionals member by member. */
type Equal<A, B> =
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/**
 * Holds a schema against the type that it mirrors: the program does not compile when the output
 * of the schema and `T` differ in any member, optional ones included.
 */
export function mirrors<T>() {
  return <S extends z.ZodType>(
    schema: S &
      (Equal<Plain<z.output<S>>, Plain<T>> extends true ? unknown : "the schema differs from T"),
  ): S => schema;
}

export const digest = mirrors<Digest>()(
  z.templateLiteral(["sha256:", z.string().regex(/^[0-9a-f]{64}$/)]),
);

/** Longest text that names something: a machine, a cloud, a component, an identifier. */
const NAME_LENGTH_MAX = 256;

/** How a user names a thing: its name, its identifier, or the forms that its room resolves. */
export const name = z.string().min(1).max(NAME_LENGTH_MAX);
export const text = z.string();
export const bytes = z.int().min(0);
export const count = z.int().min(0);
export const milliseconds = z.number().min(0);
/** Bits per second. */
export const rate = z.number().positive();
export const port = z.int().min(1).max(65535);

export function list<S extends z.ZodType>(schema: S): z.ZodReadonly<z.ZodArray<S>> {
  return z.array(schema).readonly();
}

/**
 * Runs all and waits for all, so that nothing is left running; then throws the first error.
 */
export async function settleAll<T>(work: readonly Promise<T>[]): Promise<T[]> {
  let failed: { readonly error: unknown } | undefined;
  const values: T[] = [];
  const observed = work.map((promise) =>
    promise.catch((error: unknown) => {
      failed ??= { error };
    }),
  );
  await Promise.all(observed);
  if (failed !== undefined) throw failed.error;
  for (const promise of work) values.push(await promise);
  return values;
}

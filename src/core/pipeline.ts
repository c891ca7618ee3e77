/**
 * Applies asynchronous `work` to every item with up to `depth` items in hand, and yields the
 * results in the order of the items, each as soon as it is ready. An error of the source or of
 * `work` comes in its turn, after the results before it.
 *
 * When the consumer stops early, `onStop` is called, then what is in hand is awaited and the source
 * closed; a source that may wait for long must end its wait in `onStop`.
 *
 * @param source an async generator: it must take several calls of `next` at a time
 */
export async function* pipelined<In, Out>(
  source: AsyncGenerator<In, void, undefined>,
  depth: number,
  work: (item: In) => Promise<Out>,
  onStop: () => void = () => undefined,
): AsyncGenerator<Out, void, undefined> {
  const step = async (): Promise<{ readonly value: Out } | undefined> => {
    const item = await source.next();
    return item.done === true ? undefined : { value: await work(item.value) };
  };
  const inHand: ReturnType<typeof step>[] = [];
  const fill = (): void => {
    const next = step();
    // A failure is met when its turn comes; until then it must not count as unhandled.
    next.catch(() => undefined);
    inHand.push(next);
  };
  try {
    for (let number = 0; number < depth; number += 1) fill();
    for (;;) {
      const result = await inHand.shift();
      if (result === undefined) return;
      fill();
      yield result.value;
    }
  } finally {
    onStop();
    await Promise.allSettled(inHand);
    await source.return();
  }
}

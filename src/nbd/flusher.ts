/**
 * Shares flushes: whoever asks while one runs gets the next one, together with all others that
 * wait. A flush that is given covers everything that was written before it was asked for.
 */
export function sharedFlush(flush: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  const run = (): Promise<void> => {
    next = undefined;
    const mine = flush();
    running = mine;
    const over = (): void => {
      if (running === mine) running = undefined;
    };
    mine.then(over, over);
    return mine;
  };
  return () => {
    if (running === undefined) return run();
    next ??= running.then(run, run);
    return next;
  };
}

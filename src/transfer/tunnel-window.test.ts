import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { TunnelWindow } from "./tunnel-window.ts";

const KIB = 1024;
const PIECE = 64 * KIB;

/**
 * A path of a delay and, behind it, who takes so many bytes per second: a sender that fills the window.
 *
 * @returns how long the last bytes waited, and bytes taken per second over the second half
 */
function run(delay_ms: number, takes_Bps: number, pieces = 8_000) {
  let now_ms = 0;
  const window = new TunnelWindow({ monotonic: () => now_ms });
  const under: { readonly endBytes: number; readonly at_ms: number; readonly due_ms: number }[] =
    [];
  let free_ms = 0;
  let [sentBytes, takenBytes, waited_ms] = [0, 0, 0];
  const marks: number[] = [];
  for (let done = 0; done < pieces; done += 1) {
    while (sentBytes - takenBytes < window.bytesMax) {
      sentBytes += PIECE;
      free_ms = Math.max(free_ms, now_ms + delay_ms) + (PIECE * 1000) / takes_Bps;
      under.push({ endBytes: sentBytes, at_ms: now_ms, due_ms: free_ms + delay_ms });
      window.sent(sentBytes, sentBytes - takenBytes);
    }
    const next = under.shift();
    if (next === undefined) throw new Error("nothing is under way");
    now_ms = next.due_ms;
    waited_ms = now_ms - next.at_ms;
    takenBytes = next.endBytes;
    window.taken(takenBytes);
    marks.push(now_ms);
  }
  const half = marks.length / 2;
  const seconds = ((marks.at(-1) ?? 0) - (marks[half] ?? 0)) / 1000;
  return { waited_ms, rate_Bps: ((half - 1) * PIECE) / seconds };
}

test("whoever takes is kept busy, and nothing waits for long", () => {
  const path = fc.record({
    delay_ms: fc.integer({ min: 0, max: 200 }),
    takes_Bps: fc.integer({ min: 4e6, max: 100e6 }),
  });
  fc.assert(
    fc.property(path, ({ delay_ms, takes_Bps }) => {
      const { waited_ms, rate_Bps } = run(delay_ms, takes_Bps);
      const reach_Bps = Math.min(takes_Bps, (16 * 2 ** 20 * 1000) / (2 * delay_ms + 1));
      assert.ok(rate_Bps > 0.9 * reach_Bps, `${rate_Bps} of ${reach_Bps}`);
      const least_ms = 2 * delay_ms + (PIECE * 1000) / takes_Bps;
      assert.ok(waited_ms < least_ms + 150, `${waited_ms} where ${least_ms} would do`);
    }),
  );
});

test("on a slow path little is under way, and another path is learnt anew", () => {
  let now_ms = 0;
  const window = new TunnelWindow({ monotonic: () => now_ms });
  assert.equal(window.bytesMax, 256 * KIB);
  window.sent(PIECE, PIECE);
  window.sent(20 * PIECE, 20 * PIECE);
  now_ms = 10;
  window.taken(20 * PIECE);
  assert.equal(window.bytesMax, 20 * PIECE * 11);
  window.restart();
  assert.equal(window.bytesMax, 256 * KIB);
  window.taken(30 * PIECE);
  assert.equal(window.bytesMax, 256 * KIB);
});

/** Progress while a command waits: bars on a terminal, JSON Lines where a program reads. */
import type { TextOutput } from "./surroundings.ts";

export interface ProgressView<T> {
  readonly show: (event: T) => void;
  /** Leaves what was shown last and goes to a fresh line. */
  readonly end: () => void;
}

/**
 * `render` gives lines for a terminal of so many columns. Elsewhere each event is one line
 * `{"progress": …}`.
 */
export function showProgress<T>(
  output: TextOutput,
  render: (event: T, columns: number) => readonly string[],
): ProgressView<T> {
  if (!output.isTerminal) {
    return {
      show: (event) => output.write(`${JSON.stringify({ progress: event })}\n`),
      end: () => undefined,
    };
  }
  let linesShown = 0;
  return {
    show: (event) => {
      const lines = render(event, output.columns);
      output.write(erase(linesShown) + lines.map((line) => `${line}\n`).join(""));
      linesShown = lines.length;
    },
    end: () => {
      linesShown = 0;
    },
  };
}

/** ECMA-48: cursor up (CUU), then erase to the end of the screen (ED). */
function erase(lines: number): string {
  return lines === 0 ? "" : `\u001b[${lines}A\u001b[J`;
}

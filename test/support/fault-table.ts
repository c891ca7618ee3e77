/** A reporter of node:test: its output is the table of `doc/faults.md`. */

/** What is read of the runner's events. */
export interface RunEvent {
  readonly type: string;
  readonly data?: {
    readonly name?: string;
    readonly message?: string;
    readonly file?: string;
    readonly nesting?: number;
    readonly skip?: string | boolean;
    readonly details?: { readonly type?: string };
  };
}

const HEAD = `# Faults

What became of machines whose migration was disturbed, with real agents, hypervisors and guests. Written by
\`make faults\` (\`ONLY=PATTERN\` runs a part); not by hand. Each case proves that one machine runs, has every
record that it acknowledged, in order, and that nothing is left over. \`completed\`: it arrived; \`aborted\`: it
went on where it was; \`as expected\`: the case has an end of its own, which its name says. What is not
listed was not run.
`;
/** How a test tells its end, as a diagnostic after it. */
const OUTCOMES = ["completed", "aborted", "never begun"];

interface Row {
  readonly name: string;
  outcome: string;
}

export default async function* faultTable(events: AsyncIterable<RunEvent>): AsyncGenerator<string> {
  const rows: Row[] = [];
  for await (const { type, data = {} } of events) {
    const { name = "", message = "", file = "", nesting = 0, details, skip } = data;
    if (nesting > 0 || file === "" || details?.type === "suite") continue;
    const last = rows.at(-1);
    if (type === "test:pass" || type === "test:fail") {
      const passed = skip === undefined || skip === false ? "as expected" : "not run";
      rows.push({ name, outcome: type === "test:pass" ? passed : "**FAILED**" });
    } else if (type === "test:diagnostic" && last?.outcome === "as expected") {
      if (OUTCOMES.includes(message)) last.outcome = message;
    }
  }
  yield HEAD;
  yield tableOf(rows);
}

function tableOf(rows: readonly Row[]): string {
  const lines = rows.map(({ name, outcome }) => `| ${name.replaceAll("|", "\\|")} | ${outcome} |`);
  const ran = rows.filter(({ outcome }) => outcome !== "not run").length;
  const head = `\n${ran} of ${rows.length} were run.\n\n| case | end |\n| --- | --- |\n`;
  return `${head}${lines.join("\n")}\n`;
}

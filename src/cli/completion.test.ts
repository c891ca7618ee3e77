import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { run } from "./fixture.suite.ts";

const execute = promisify(execFile);

/** What bash offers for a line, the last word of which is being typed. */
async function offers(script: string, words: readonly string[]): Promise<string[]> {
  const ask = `${script}
COMP_WORDS=("$@"); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
_tessera
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await execute("bash", ["-c", ask, "bash", ...words], { timeout: 10_000 });
  return stdout.split("\n").filter((word) => word !== "");
}

test("bash completes commands and flags", async () => {
  const { code, out } = await run(["completion", "bash"]);
  assert.equal(code, 0);
  assert.deepEqual(await offers(out, ["tessera", "mi"]), ["migrate", "migration"]);
  assert.deepEqual(await offers(out, ["tessera", "machine", "st"]), ["start", "stop"]);
  assert.deepEqual(await offers(out, ["tessera", "migrate", "web-1", "--bw"]), ["--bwlimit"]);
  assert.deepEqual(
    await offers(out, ["tessera", "migration", "resolve", "m", "--keep-here", "--f"]),
    ["--fenced"],
  );
  assert.deepEqual(await offers(out, ["tessera", "nonsense", "x", "x"]), []);
  assert.deepEqual(await offers(out, ["tessera", "component", "ls", "--json", "--k"]), ["--kind"]);
});

test("zsh and fish get scripts of the same words", async () => {
  const zsh = await run(["completion", "zsh"]);
  assert.match(zsh.out, /^#compdef tessera\n/);
  assert.match(zsh.out, /"migration resolve"\) words="--json --agent --keep-here/);
  const fish = await run(["completion", "fish"]);
  const lines = fish.out.split("\n");
  assert.ok(
    lines.includes(
      "complete -c tessera -n '__fish_seen_subcommand_from machine; and __fish_seen_subcommand_from start'" +
        " -l timeout -d 'longest wait, for instance 90s'",
    ),
  );
  assert.ok(
    lines.includes(
      "complete -c tessera -n '__fish_use_subcommand' -f -a plan -d " +
        "'what a migration would move, component by component, before anything moves'",
    ),
  );
  for (const line of lines.filter((line) => line.startsWith("complete"))) {
    assert.equal(line.replaceAll("\\'", "").split("'").length, 5, line);
  }
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { APPLETS, INIT_SCRIPT, SHUTDOWN_SCRIPT } from "./init-script.ts";

/** Words that begin a command in the scripts and are not programs. */
const SHELL = new Set(
  "fail scan missing targets case esac for while until if then else elif fi do done in continue break eval exec export read echo [ exit".split(
    " ",
  ),
);

for (const [name, script] of [
  ["init", INIT_SCRIPT],
  ["shutdown", SHUTDOWN_SCRIPT],
] as const) {
  test(`the ${name} script is a shell script`, () => {
    // Substrings and replacements are extensions that busybox shares with bash.
    const { status, stderr } = spawnSync("bash", ["-n"], { input: script, encoding: "utf8" });
    assert.equal(stderr, "");
    assert.equal(status, 0);
  });

  test(`every program that the ${name} script calls is an applet of the initramfs`, () => {
    const commands = [...script.matchAll(/^\s*(?:until |while |if )?([a-z_]+) /gm)]
      .map((match) => match[1] ?? "")
      .filter((word) => !SHELL.has(word));
    assert.ok(commands.includes("umount"));
    for (const command of commands) assert.ok(APPLETS.includes(command), command);
  });
}

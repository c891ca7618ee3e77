import assert from "node:assert/strict";
import { dirname } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { layoutOf } from "../layout.ts";
import { agree, GREETING, monitor, type Answer } from "../monitor.suite.ts";
import { closePorts, openPorts } from "./forwards.ts";
import { HotSession } from "./session.ts";

const WEB = { name: "web", guest: 80 };

/** QEMU's forwarding, as far as it answers in words; `taken` says which ports others have. */
async function scene(t: TestContext, taken: (port: number) => boolean = () => false) {
  const open = new Map<number, number>();
  const words = (line: string): string => {
    const [, port = "", guest = ""] = /127\.0\.0\.1:(\d+)(?:-:(\d+))?$/.exec(line) ?? [];
    if (line === "info usernet") {
      return [...open]
        .map(
          (one) => `  TCP[HOST_FORWARD]   8  127.0.0.1 ${one[0]}  10.0.2.15  ${one[1]}  0  0\r\n`,
        )
        .join("");
    }
    if (line.startsWith("hostfwd_remove network ")) {
      return open.delete(Number(port)) ? "removed\r\n" : "not found\r\n";
    }
    assert.match(line, /^hostfwd_add network tcp:/);
    if (guest === "0") return "Invalid host forwarding rule\r\n";
    if (open.has(Number(port)) || taken(Number(port))) {
      return `Could not set up host forwarding rule 'tcp:127.0.0.1:${port}-:${guest}'\r\n`;
    }
    open.set(Number(port), Number(guest));
    return "";
  };
  const answer: Answer = (command, socket) => {
    if (command["execute"] !== "human-monitor-command") return agree(command, socket);
    const line = (command["arguments"] as { "command-line": string })["command-line"];
    return `${JSON.stringify({ return: words(line), id: command["id"] })}\n`;
  };
  const layout = layoutOf(dirname(await monitor(t, GREETING, answer, "hot.sock")));
  const identity = { pid: 2 ** 22, startTicks: 1, bootId: "none" };
  const session = await HotSession.open(realWorld(), layout, identity);
  t.after(() => session.close());
  return { session, open };
}

test("ports are closed and opened, and done again neither changes anything", async (t) => {
  const { session, open } = await scene(t);
  const forwards = [WEB, { name: "data", guest: 6379 }];
  const hostPorts = { web: 8080, data: 8081 };
  for (const turn of [1, 2]) {
    assert.deepEqual(await openPorts(session, forwards, hostPorts), hostPorts, `turn ${turn}`);
    assert.deepEqual(Object.fromEntries(open), { 8080: 80, 8081: 6379 });
  }
  for (const turn of [1, 2]) {
    await closePorts(session, hostPorts);
    assert.equal(open.size, 0, `turn ${turn}`);
  }
});

test("a port that another program has taken meanwhile is replaced by one that is free", async (t) => {
  const { session, open } = await scene(t, (port) => port === 8080);
  const { web = 0 } = await openPorts(session, [WEB], { web: 8080 });
  assert.notEqual(web, 8080);
  assert.equal(open.get(web), 80);
});

const fails = (text: string) => (error: unknown) =>
  hasCode(error, "hypervisor.port-taken") && error.message.includes(text);

test("what cannot be forwarded is said", async (t) => {
  const all = await scene(t, () => true);
  await assert.rejects(openPorts(all.session, [WEB], { web: 8080 }), fails("every port"));
  const none = await scene(t);
  const strange = [{ name: "web", guest: 0 }];
  await assert.rejects(openPorts(none.session, strange, { web: 8080 }), fails("Invalid"));
});

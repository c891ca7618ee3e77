/** `tessera agent …`: the agent's own program, and the trust between clouds. */
import { resolve } from "node:path";
import { OPERATIONS, type Input } from "#api";
import { TesseraError } from "#core";
import type { Command } from "commander";
import { renderAgent, renderPeers } from "./render-lists.ts";
import { act, exampleText, leaf, type Bench } from "./session.ts";
import { readJson } from "./texts.ts";

/** How the file of a card says what it is, with its version. */
const CARD_FORMAT = "tessera-card/1";

export function addAgentCommands(root: Command, bench: Bench): void {
  const agent = root.command("agent").description("the migration agent of this cloud");
  addPrograms(agent, bench);
  addCard(agent, bench);
  addPeers(agent, bench);
  const info = leaf(agent, "info", {
    summary: "who the agent is and how it is connected",
    examples: ["tessera agent info", "tessera agent info --agent /var/lib/tessera --json"],
  });
  act(bench, info, async (session) => {
    session.print(await session.call("agent.info", {}), renderAgent);
  });
  const stop = leaf(agent, "stop", {
    summary: "end the agent; machines run on",
    examples: ["tessera agent stop"],
  });
  act(bench, stop, async (session) => {
    const result = await session.call("agent.shutdown", {});
    session.print(result, () => "the agent is stopping; machines run on\n");
  });
}

/** Commands that the agent's own program carries out, with all options as they were given. */
function addPrograms(agent: Command, bench: Bench): void {
  const forward = (command: Command, examples: readonly string[]): void => {
    command
      .allowUnknownOption()
      .allowExcessArguments()
      .addHelpText("after", exampleText(examples))
      .action(async () => {
        const at = bench.argv.indexOf(command.name());
        bench.finish(await bench.surroundings.runAgent(bench.argv.slice(at)));
      });
  };
  forward(
    agent
      .command("init <directory>")
      .description("make a new cloud: its keys, certificates and configuration")
      .option("--name <name>", "the cloud's name in the federation (needed)")
      .option("--domain <domain>", "its XMPP domain (needed)")
      .option("--region <region>", "where it is, for service levels")
      .option("--room <jid>", "the federation's room; by default this cloud hosts it")
      .option("--host <address>", "address to listen on; by default all")
      .option("--advertise <host>", "what other clouds are told; by default the domain")
      .option("--client-port <port>", "of its XMPP server, for its own agent")
      .option("--server-port <port>", "of its XMPP server, for other clouds' servers")
      .option("--data-port <port>", "of the data plane")
      .option("--cpus <count>", "how many processors it gives to machines")
      .option("--memory <size>", "how much memory it gives to machines, for instance 8G")
      .option("--link <rate>", "its uplink, for instance 100Mbit/s"),
    ["tessera agent init /var/lib/tessera --name messina --domain messina.example.org"],
  );
  forward(agent.command("run <directory>").description("run the agent until it is told to stop"), [
    "tessera agent run /var/lib/tessera",
  ]);
}

function addCard(agent: Command, bench: Bench): void {
  const card = leaf(agent, "card", {
    summary: "print this cloud's card, for other clouds to trust",
    examples: [
      "tessera agent card > messina.card.json",
      "tessera agent card --dir /var/lib/tessera    (where the agent does not run)",
    ],
  }).option("--dir <directory>", "read it from a state directory instead of asking the agent");
  act<{ dir?: string }>(bench, card, async (session, _, { dir }) => {
    if (dir !== undefined) return bench.surroundings.runAgent(["card", place(bench, dir)]);
    const info = await session.call("agent.info", {});
    session.print({ format: CARD_FORMAT, ...info.card }, (value) => {
      return `${JSON.stringify(value, null, 2)}\n`;
    });
    return 0;
  });
  const trust = leaf(agent, "trust <card>", {
    summary: "trust the cloud of a card (a file from its administrator)",
    examples: [
      "tessera agent trust inquadro.card.json",
      "tessera agent trust inquadro.card.json --dir /var/lib/tessera",
    ],
  }).option("--dir <directory>", "write to a state directory instead of telling the agent");
  act<{ dir?: string }>(bench, trust, async (session, [file = ""], { dir }) => {
    const path = place(bench, file);
    if (dir !== undefined) return bench.surroundings.runAgent(["trust", place(bench, dir), path]);
    const peer = await session.call("peer.add", readCard(await readJson(path), path));
    session.print(peer, (value) => `trusting ${value.card.cloud} (${value.fingerprint})\n`);
    return 0;
  });
}

function place(bench: Bench, path: string): string {
  return resolve(bench.surroundings.directory, path);
}

function readCard(file: unknown, path: string): Input<"peer.add"> {
  const { format, ...card } = membersOf(file) as { format?: unknown };
  if (format !== CARD_FORMAT) throw invalidCard(path, `this is no card (${CARD_FORMAT})`);
  const parsed = OPERATIONS["peer.add"].input.safeParse({ card });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.slice(1).map(String).join(".") || "the card";
  throw invalidCard(path, `${where}: ${issue?.message}`);
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function invalidCard(path: string, message: string): TesseraError {
  return new TesseraError("misuse", "cli.card-invalid", message, {
    subject: path,
    remedy: "ask the other cloud for the output of `tessera agent card`",
  });
}

function addPeers(agent: Command, bench: Bench): void {
  const peers = leaf(agent, "peers", {
    summary: "clouds that this one trusts",
    examples: ["tessera agent peers"],
  });
  act(bench, peers, async (session) => {
    session.print(await session.call("peer.list", {}), (value) => renderPeers(value.peers));
  });
  const distrust = leaf(agent, "distrust <cloud>", {
    summary: "trust a cloud no longer",
    examples: ["tessera agent distrust inquadro"],
  });
  act(bench, distrust, async (session, [cloud = ""]) => {
    const result = await session.call("peer.remove", { cloud });
    session.print(result, ({ removed }) => `${removed} is trusted no longer\n`);
  });
}

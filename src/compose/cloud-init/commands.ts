/** Commands of the first boot and of every boot, as scripts and units of systemd. Pure. */
import type { InstanceFile, InstanceLink } from "../contract.ts";
import type { Commands } from "./schema.ts";

const UNITS = "/etc/systemd/system";
const DIRECTORY = "/var/lib/tessera";
const RUN = `${DIRECTORY}/first-boot`;
const SCRIPT = `${DIRECTORY}/user-script`;
const EACH = `${DIRECTORY}/each-boot`;
const DONE = `${DIRECTORY}/first-boot.done`;

export interface Pieces {
  readonly files: readonly InstanceFile[];
  readonly links: readonly InstanceLink[];
}

/** The machine counts as ready when this has ended: the ready signal is after the target. */
const FIRST_BOOT_UNIT = `[Unit]
Description=Run the commands of this machine's first boot
Wants=network-online.target
After=network-online.target
ConditionPathExists=!${DONE}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=/bin/sh -c ': >${DONE}'
`;

const EACH_BOOT_UNIT = `[Unit]
Description=Run the commands of every boot of this machine
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh ${EACH}
`;

/** What runs once, in this order: the commands, then the script. */
export function firstBoot(runcmd: Commands | undefined, script: string | undefined): Pieces {
  const hasCommands = runcmd !== undefined && runcmd.length > 0;
  if (!hasCommands && script === undefined) return { files: [], links: [] };
  const starts = [
    // What one of them ends with is in the journal; the other is run all the same, as by cloud-init.
    ...(hasCommands ? [`ExecStart=-/bin/sh ${RUN}\n`] : []),
    ...(script === undefined ? [] : [`ExecStart=-${SCRIPT}\n`]),
  ];
  return {
    files: [
      text(`${UNITS}/tessera-first-boot.service`, FIRST_BOOT_UNIT + starts.join("")),
      ...(hasCommands ? [text(RUN, scriptOf(runcmd), 0o700)] : []),
      ...(script === undefined ? [] : [text(SCRIPT, script, 0o700)]),
    ],
    links: [wanted("multi-user.target", "tessera-first-boot.service")],
  };
}

export function everyBoot(bootcmd: Commands | undefined): Pieces {
  if (bootcmd === undefined || bootcmd.length === 0) return { files: [], links: [] };
  return {
    files: [
      text(`${UNITS}/tessera-each-boot.service`, EACH_BOOT_UNIT),
      text(EACH, scriptOf(bootcmd), 0o700),
    ],
    links: [wanted("sysinit.target", "tessera-each-boot.service")],
  };
}

/** A text is a line of the shell, a list is a command with its arguments. */
function scriptOf(commands: Commands): string {
  const lines = commands.flatMap((command) => {
    if (command === null) return [];
    return typeof command === "string" ? [command] : [command.map(quoted).join(" ")];
  });
  return `#!/bin/sh\n${lines.join("\n")}\n`;
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function wanted(target: string, unit: string): InstanceLink {
  return { path: `${UNITS}/${target}.wants/${unit}`, target: `../${unit}` };
}

export function text(path: string, content: string, mode = 0o644): InstanceFile {
  return { path, content: Buffer.from(content), mode };
}

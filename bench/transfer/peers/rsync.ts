/** rsync against its own daemon over plain TCP; the old file is the basis, beside the new one. */
import { writeFileSync } from "node:fs";
import { ADDRESSES } from "../link.ts";
import { PORT, run, start, type Scene, type Tool } from "../scene.ts";

function daemonSettings({ new: directory }: Scene["pair"]): string {
  const module = `[new]\npath = ${directory}\nread only = yes\nuid = root\ngid = root\n`;
  return `use chroot = no\nmax verbosity = 0\n${module}`;
}

function rsync(name: string, options: string): Tool {
  return {
    name,
    how: `\`rsync ${options}\` from an rsync daemon`,
    async serve(scene) {
      const settings = `${scene.target}.rsyncd.conf`;
      writeFileSync(settings, daemonSettings(scene.pair));
      const daemon = `--daemon --no-detach --config=${settings} --port=${PORT}`;
      start(scene.link, "sender", `exec rsync ${daemon} --log-file=/dev/null`);
      await scene.link.listening("sender", PORT);
    },
    async fetch({ link, pair, target }) {
      const basis = pair.old === undefined ? "" : `--copy-dest=${pair.old}`;
      const from = `rsync://${ADDRESSES.sender}:${PORT}/new/image`;
      const common = "--ignore-times --sparse --no-motd";
      await run(link, "receiver", `rsync ${common} ${options} ${basis} ${from} ${target}/`);
      return { path: `${target}/image` };
    },
  };
}

/** What rsync can do for the fewest bytes: zstd's highest sensible level and small blocks. */
const TUNED = "--compress-choice=zstd --compress-level=19 --block-size=4096";

export const RSYNCS: readonly Tool[] = [
  rsync("rsync", "-z"),
  rsync("rsync-tuned", TUNED),
  rsync("rsync-tuned-3", TUNED.replace("=19", "=3")),
  rsync("rsync-plain", "--block-size=4096"),
];

/** Block devices over NBD: all bytes travel. */
import { ADDRESSES } from "../link.ts";
import { PORT, run, start, type Tool } from "../scene.ts";

function nbd(name: string, how: string, command: string): Tool {
  return {
    name,
    how,
    async serve({ link, pair }) {
      const options = `--exit-with-parent --foreground --readonly --port=${PORT}`;
      start(link, "sender", `nbdkit ${options} file ${pair.new}/image; exit`);
      await link.listening("sender", PORT);
    },
    async fetch({ link, target }) {
      await run(link, "receiver", `${command} ${target}/image`);
      return { path: `${target}/image` };
    },
  };
}

const URI = `nbd://${ADDRESSES.sender}:${PORT}`;

export const NBDS: readonly Tool[] = [
  nbd("qemu-img", "`qemu-img convert` over NBD from nbdkit", `qemu-img convert -O raw ${URI}`),
  nbd("nbdcopy", "`nbdcopy` over NBD from nbdkit", `nbdcopy ${URI}`),
];

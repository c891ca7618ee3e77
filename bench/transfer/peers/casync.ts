/** casync: chunks of 16 KiB from a chunk store behind an HTTP server, the old file as seed. */
import { writeFileSync } from "node:fs";
import { ADDRESSES } from "../link.ts";
import { PORT, prepare, run, start, type Tool } from "../scene.ts";

function serverSettings(root: string, pidFile: string): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${pidFile}.d;`)
    .join(" ");
  const server = `server { listen ${PORT}; root ${root}; keepalive_requests 1000000; }`;
  return `user root; daemon off; pid ${pidFile}; error_log stderr crit; worker_processes 1;
events { worker_connections 64; }
http { access_log off; sendfile on; tcp_nodelay on; ${temporary} ${server} }\n`;
}

export const CASYNC: Tool = {
  name: "casync",
  how: "`casync extract --seed=OLD` with chunks of 16 KiB from nginx, the store made before",
  prepare({ new: directory }, prepared) {
    const store = `--store=${prepared}/store.castr --chunk-size=16384`;
    prepare(`casync make ${store} ${prepared}/new.caibx ${directory}/image`);
  },
  async serve({ link, prepared, target }) {
    const settings = `${target}.nginx.conf`;
    writeFileSync(settings, serverSettings(prepared, `${target}.nginx.pid`));
    start(link, "sender", `exec nginx -c ${settings} -e stderr`);
    await link.listening("sender", PORT);
  },
  async fetch({ link, pair, target }) {
    const root = `http://${ADDRESSES.sender}:${PORT}`;
    const seed = pair.old === undefined ? "" : `--seed=${pair.old}/image`;
    const store = `--store=${root}/store.castr`;
    await run(
      link,
      "receiver",
      `casync extract ${store} ${seed} ${root}/new.caibx ${target}/image`,
    );
    return { path: `${target}/image` };
  },
};

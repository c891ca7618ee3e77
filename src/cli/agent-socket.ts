/** Where the agent is found. */
import { join, resolve } from "node:path";
import { statSync } from "node:fs";
import type { Surroundings } from "./surroundings.ts";

const SOCKET_NAME = "agent.sock";

type Place = Pick<Surroundings, "environment" | "directory" | "home" | "isRoot">;

/** State directory of an agent whose user named none. */
function defaultStateDirectory({ environment, home, isRoot }: Place): string {
  if (isRoot) return "/var/lib/tessera";
  return join(environment["XDG_STATE_HOME"] || join(home, ".local", "state"), "tessera");
}

/** `--agent`, else `TESSERA_AGENT`, else the default state directory's; a directory is one too. */
export function agentSocket(flag: string | undefined, place: Place): string {
  const named = flag ?? (place.environment["TESSERA_AGENT"] || undefined);
  if (named === undefined) return join(defaultStateDirectory(place), SOCKET_NAME);
  const path = resolve(place.directory, named);
  const isDirectory = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return isDirectory ? join(path, SOCKET_NAME) : path;
}

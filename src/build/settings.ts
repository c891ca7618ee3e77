import { join } from "node:path";
import type { World } from "#core";
import { runClean } from "./commands.ts";

/**
 * Writes an apt configuration that leaves the machine's apt alone: an own root below `directory`,
 * no hooks and no preferences of the machine, only its proxy and TLS settings. Returns its path,
 * for `APT_CONFIG`, which apt reads before it looks for configuration directories (apt.conf(5)).
 */
export async function aptSettings(
  world: World,
  directory: string,
  architecture?: string,
): Promise<string> {
  const path = join(directory, "apt.conf");
  const lines = [
    `Dir "${directory}/apt/";`,
    `Dir::State::status "${directory}/apt/var/lib/dpkg/status";`,
    'Acquire::Languages "none";',
    'APT::Sandbox::User "root";',
    'APT::Install-Recommends "false";',
    'Acquire::Retries "2";',
    ...(architecture === undefined
      ? []
      : [`APT::Architecture "${architecture}";`, `APT::Architectures { "${architecture}"; };`]),
    ...(await networkSettings(world)),
  ];
  for (const name of ["etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d"]) {
    await world.files.makeDirectory(join(directory, "apt", name));
  }
  for (const name of ["lib/apt/lists/partial", "cache/apt/archives/partial", "lib/dpkg"]) {
    await world.files.makeDirectory(join(directory, "apt/var", name));
  }
  await world.files.writeFileAtomic(path, `${lines.join("\n")}\n`);
  return path;
}

/** The machine's own settings for reaching archives. */
async function networkSettings(world: World): Promise<string[]> {
  const format = ["--format", '%f "%v";%n', "dump"];
  const names = ["Acquire::http", "Acquire::https"];
  const { output } = await runClean(world, "apt-config", [...format, ...names]);
  const proxies = Buffer.from(output)
    .toString("utf8")
    .split("\n")
    .filter((line) => /^Acquire::https?::\S+ "[^"]+";$/.test(line));
  return proxies;
}

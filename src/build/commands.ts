import { TesseraError, type CommandOptions, type CommandResult, type World } from "#core";

/** What the programs we call may see: nothing of the caller's locale, zone or settings. */
const CLEAN: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
  TZ: "UTC",
  DEBIAN_FRONTEND: "noninteractive",
};

export interface CleanOptions extends CommandOptions {
  /** Added to the clean environment. */
  readonly environment?: Readonly<Record<string, string>>;
}

/**
 * Runs a program with a fixed environment and umask, so that the caller's user, zone and locale
 * leave no trace in what it makes.
 */
export function runClean(
  world: World,
  program: string,
  args: readonly string[],
  options: CleanOptions = {},
): Promise<CommandResult> {
  const variables = Object.entries({ ...CLEAN, ...options.environment });
  const { environment: _, ...rest } = options;
  return world.processes.run(
    "/usr/bin/env",
    [
      "-i",
      ...variables.map(([name, value]) => `${name}=${value}`),
      "/bin/sh",
      "-c",
      'umask 022; exec "$@"',
      "sh",
      program,
      ...args,
    ],
    rest,
  );
}

/** As {@link runClean}; exit code 127 means that the program is not installed. */
export async function runChecked(
  world: World,
  program: string,
  args: readonly string[],
  options: CleanOptions & { readonly code: string; readonly remedy: string },
): Promise<CommandResult> {
  const { code, remedy, ...rest } = options;
  const result = await runClean(world, program, args, rest);
  if (result.exitCode === 0) return result;
  if (result.exitCode === 127) {
    throw new TesseraError("environment", "system.program-missing", `cannot run ${program}`, {
      subject: program,
      remedy: `install the program ${program}`,
    });
  }
  throw new TesseraError("environment", code, `${program} failed: ${lastLines(result.errorText)}`, {
    subject: program,
    remedy,
  });
}

/** The end of a program's complaint, short enough for a message. */
export function lastLines(text: string): string {
  const lines = text.trim().split("\n").slice(-6);
  return lines.join("; ").slice(-1000);
}

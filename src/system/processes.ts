import { spawn, type ChildProcess, type StdioOptions } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import {
  TesseraError,
  type CommandOptions,
  type CommandResult,
  type ProcessIdentity,
  type Processes,
  type StartedProcess,
  type StartOptions,
} from "#core";

const OUTPUT_BYTES_MAX = 16 * 2 ** 20;
const ERROR_TEXT_BYTES_MAX = 64 * 2 ** 10;

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/** State and start time from `/proc/PID/stat` (proc(5)); the name in it may hold anything. */
function statOf(pid: number): { state: string; startTicks: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0] ?? "", startTicks: Number(fields[19]) };
  } catch {
    return undefined;
  }
}

function identify(pid: number): ProcessIdentity | undefined {
  const stat = statOf(pid);
  if (stat === undefined || stat.state === "Z" || stat.state === "X") return undefined;
  return { pid, startTicks: stat.startTicks, bootId: bootId() };
}

function alive(identity: ProcessIdentity): boolean {
  const now = identify(identity.pid);
  return now?.startTicks === identity.startTicks && now.bootId === identity.bootId;
}

function spawnError(program: string, cause: unknown): TesseraError {
  const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
  const code = missing ? "system.program-missing" : "system.start-failed";
  return new TesseraError("environment", code, `cannot run ${program}`, {
    subject: program,
    remedy: missing ? `install the program ${program}, or run "make setup"` : "look at the cause",
    cause,
  });
}

/** Collects a child's output up to a bound, standard error as its tail. */
class Collector {
  readonly output: Buffer[] = [];
  outputBytes = 0;
  errorText = "";

  takeOutput(chunk: Buffer): void {
    this.output.push(chunk);
    this.outputBytes += chunk.length;
  }

  takeError(chunk: Buffer): void {
    this.errorText = (this.errorText + chunk.toString("utf8")).slice(-ERROR_TEXT_BYTES_MAX);
  }
}

function environmentOf(extra: Readonly<Record<string, string>> | undefined): NodeJS.ProcessEnv {
  return { ...process.env, ...extra };
}

function run(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const sink = options.outputFile === undefined ? "pipe" : openSync(options.outputFile, "w");
  const child = spawn(program, [...args], {
    stdio: [options.input === undefined ? "ignore" : "pipe", sink, "pipe"],
    env: environmentOf(options.environment),
    cwd: options.directory,
    timeout: options.timeout_ms,
    killSignal: "SIGKILL",
    signal: options.signal,
  });
  if (typeof sink === "number") closeSync(sink);
  return collect(child, program, options);
}

function collect(
  child: ChildProcess,
  program: string,
  options: CommandOptions,
): Promise<CommandResult> {
  const collector = new Collector();
  const bytesMax = options.outputBytesMax ?? OUTPUT_BYTES_MAX;
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  const fail = (code: string, message: string): void => {
    child.kill("SIGKILL");
    reject(new TesseraError("environment", code, message, { subject: program }));
  };
  child.stdout?.on("data", (chunk: Buffer) => {
    collector.takeOutput(chunk);
    if (collector.outputBytes > bytesMax)
      fail("system.output-too-large", `${program} says too much`);
  });
  child.stderr?.on("data", (chunk: Buffer) => collector.takeError(chunk));
  child.on("error", (cause) =>
    reject(options.signal?.aborted ? cause : spawnError(program, cause)),
  );
  child.on("close", (code, signal) => {
    if (signal === "SIGKILL" && options.timeout_ms !== undefined) {
      fail("system.timeout", `${program} did not end within ${options.timeout_ms} ms`);
    }
    const { errorText, output } = collector;
    resolve({ exitCode: code ?? -1, output: Buffer.concat(output), errorText });
  });
  // A program may end without reading its input; its exit code tells what that means.
  child.stdin?.on("error", () => {});
  child.stdin?.end(options.input);
  return promise;
}

/**
 * The command line with what must hold before the program starts. `setpriv` (util-linux) drops
 * privileges and, for a child that must not outlive us, sets the parent-death signal (prctl(2)).
 */
function commandOf(program: string, args: readonly string[], options: StartOptions): string[] {
  const { life, user } = options;
  const drop =
    user === undefined ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups"];
  const death = life === "own" ? ["--pdeathsig=TERM"] : [];
  if (drop.length === 0 && death.length === 0) return [program, ...args];
  return ["setpriv", ...drop, ...death, "--", program, ...args];
}

async function start(
  program: string,
  args: readonly string[],
  options: StartOptions,
): Promise<StartedProcess> {
  const log = openSync(options.logFile, "a", 0o600);
  const stdio: StdioOptions = ["ignore", log, log];
  const [command = program, ...rest] = commandOf(program, args, options);
  const child = spawn(command, rest, {
    stdio,
    env: environmentOf(options.environment),
    cwd: options.directory,
    detached: options.life === "free",
  });
  closeSync(log);
  const exit = new Promise<number>((resolve) => {
    child.on("exit", (code) => resolve(code ?? -1));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) => reject(spawnError(program, cause)));
  });
  if (options.life === "free") child.unref();
  const pid = child.pid ?? 0;
  const identity = identify(pid) ?? { pid, startTicks: 0, bootId: bootId() };
  return { identity, exit };
}

/** Real processes; needs a Linux `/proc`. */
export function realProcesses(): Processes {
  return {
    run,
    start,
    alive,
    identify,
    kill: (identity, signal) => {
      if (!alive(identity)) return;
      try {
        process.kill(identity.pid, signal);
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== "ESRCH") throw cause;
      }
    },
  };
}

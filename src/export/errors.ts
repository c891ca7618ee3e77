import { TesseraError } from "#core";

/** The machine cannot become a disk that boots by itself. */
export function unsuitable(subject: string, problem: string, remedy: string): TesseraError {
  const message = `${subject} ${problem}`;
  return new TesseraError("misuse", "export.machine-unsuitable", message, { subject, remedy });
}

/** A program or a file of the host that an export needs is not there. */
export function toolMissing(what: string, packages: string): TesseraError {
  const message = `${what} is not on this host, which an export needs`;
  return new TesseraError("environment", "export.boot-loader-missing", message, {
    subject: what,
    remedy: `install the Debian packages ${packages}, or run scripts/setup export`,
  });
}

/** A tool of the host ended badly. */
export function toolFailed(program: string, detail: string, cause?: unknown): TesseraError {
  const message = `${program} failed: ${detail.trim().slice(-500)}`;
  return new TesseraError("environment", "export.tool-failed", message, {
    subject: program,
    remedy: "check the free space, and that the program is Debian's",
    cause,
  });
}

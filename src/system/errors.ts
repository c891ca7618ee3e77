import { TesseraError } from "#core";

const REMEDIES: Readonly<Record<string, readonly [code: string, remedy: string]>> = {
  ENOENT: ["system.not-found", "check the path"],
  EEXIST: ["system.exists", "choose another name or remove what is there"],
  ENOSPC: ["system.disk-full", "free some space and try again"],
  EDQUOT: ["system.disk-full", "free some space and try again"],
  EACCES: ["system.permission", "check the owner and mode of the path"],
  EPERM: ["system.permission", "check the owner and mode of the path"],
};

/** The error of a system call as a TesseraError about `path`. */
export function systemError(cause: unknown, action: string, path: string): TesseraError {
  if (cause instanceof TesseraError) return cause;
  const errno = (cause as NodeJS.ErrnoException | undefined)?.code ?? "unknown";
  const [code, remedy] = REMEDIES[errno] ?? ["system.io", "look at the cause"];
  return new TesseraError("environment", code, `cannot ${action} ${path}: ${errno}`, {
    subject: path,
    remedy,
    cause,
  });
}

/** Runs `work` and turns what it throws into a TesseraError. */
export async function guarded<T>(action: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw systemError(cause, action, path);
  }
}

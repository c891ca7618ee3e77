/**
 * A path with every version number replaced by `#`: digits with the separators between them, so
 * that `/lib/modules/6.1.0-55-cloud-amd64/a.ko` and its `-56` agree, and `libssl.so.3.0.11` with
 * `libssl.so.3.0.17`.
 */
export function versionlessPath(path: string): string {
  return path.replaceAll(/\d+(?:[.\-_+~:]\d+)*/g, "#");
}

export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Without the slash at its end; empty for a path without one. */
export function directoryOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/** The exported machine's fstab(5). Pure. */

export interface NewFstab {
  readonly text: string;
  /** Lines that count no more. */
  readonly left: readonly string[];
}

/**
 * The root's line in front of the machine's own lines; those for the root are commented out, or all
 * where the machine used none of them.
 */
export function newFstab(old: string, fileSystem: string, isUnused: boolean): NewFstab {
  const left: string[] = [];
  const lines = old.split("\n").map((line) => {
    const [device = "", mountPoint = ""] = line.trim().split(/\s+/);
    if (device === "" || device.startsWith("#")) return line;
    if (!isUnused && mountPoint !== "/") return line;
    left.push(line.trim());
    return `# ${line}`;
  });
  const own = `UUID=${fileSystem} / ext4 errors=remount-ro 0 1`;
  return { text: [own, ...lines].join("\n").replace(/\n*$/, "\n"), left };
}

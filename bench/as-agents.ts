/** How `bin/tessera` starts agents, for programs that are measured in their place. */
export const NODE_OPTIONS: readonly string[] = ["--max-semi-space-size=8"];
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  MALLOC_MMAP_THRESHOLD_: "2097152",
  MALLOC_TRIM_THRESHOLD_: "16777216",
};

/** Shell completion, made from the table of commands. Pure. */
import type { Command } from "commander";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

interface Place {
  /** Subcommands that lead here, separated by spaces; empty for the program. */
  readonly path: string;
  readonly words: readonly { readonly word: string; readonly summary: string }[];
}

function placesOf(command: Command, path = ""): Place[] {
  const subcommands = command.commands.map((one) => ({
    word: one.name(),
    summary: one.description(),
  }));
  const flags = command.options.flatMap(({ long, description }) =>
    long === undefined || long === null ? [] : [{ word: long, summary: description }],
  );
  const words = [...subcommands, ...flags, { word: "--help", summary: "help" }];
  const below = command.commands.flatMap((one) => placesOf(one, `${path} ${one.name()}`.trim()));
  return [{ path, words }, ...below];
}

export function completionScript(program: Command, shell: Shell): string {
  const places = placesOf(program);
  if (shell === "fish") return fishScript(places);
  return shell === "zsh" ? zshScript(places) : bashScript(places);
}

/** The words of the place that the line has come to; files where there is nothing to say. */
function bashScript(places: readonly Place[]): string {
  return `# bash completion for tessera: source it, or put it into /etc/bash_completion.d/
_tessera() {
  local word path="" words="" current="\${COMP_WORDS[COMP_CWORD]}"
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  while :; do
    case "$path" in
${caseLines(places)}
      *" "*) path="\${path% *}"; continue ;;
      *) words="" ;;
    esac
    break
  done
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _tessera tessera
`;
}

function caseLines(places: readonly Place[]): string {
  return places
    .map(({ path, words }) => {
      const all = words.map(({ word }) => word).join(" ");
      return `      ${path === "" ? '""' : `"${path}"`}) words="${all}" ;;`;
    })
    .join("\n");
}

function zshScript(places: readonly Place[]): string {
  return `#compdef tessera
autoload -U +X bashcompinit && bashcompinit
${bashScript(places)}`;
}

function fishScript(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, words }) =>
    words.map(({ word, summary }) => {
      const what = word.startsWith("--") ? `-l ${word.slice(2)}` : `-f -a ${word}`;
      return `complete -c tessera -n '${fishCondition(path, places)}' ${what} -d '${quoted(summary)}'`;
    }),
  );
  return `# fish completion for tessera: put it into ~/.config/fish/completions/tessera.fish\n${lines.join("\n")}\n`;
}

function fishCondition(path: string, places: readonly Place[]): string {
  if (path === "") return "__fish_use_subcommand";
  const seen = path.split(" ").map((word) => `__fish_seen_subcommand_from ${word}`);
  const below = places.flatMap((place) =>
    place.path.startsWith(`${path} `) ? [place.path.slice(path.length + 1)] : [],
  );
  const notBelow = below.length === 0 ? [] : [`not __fish_seen_subcommand_from ${below.join(" ")}`];
  return [...seen, ...notBelow].join("; and ");
}

function quoted(text: string): string {
  return text.replaceAll(/['\\]/g, (character) => `\\${character}`);
}

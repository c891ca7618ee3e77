/** Peers that make one stream and send it by socat. */
import { ADDRESSES } from "../link.ts";
import { ended, PORT, start, type Scene, type Tool } from "../scene.ts";

const SOCAT = "socat -u -b 262144";

/**
 * @param encode shell command of the sender, to its standard output; `$OLD` and `$NEW` are the files
 * @param decode of the receiver, from standard input; `$OUT` is the file to write
 */
function pipe(name: string, encode: string, decode: string, slow = false): Tool {
  return {
    name,
    how: `\`${encode} | socat\``,
    slow,
    async fetch(scene: Scene) {
      const { link, pair, target } = scene;
      const out = `${target}/image`;
      const files = `OLD=${pair.old ?? "/nowhere"}/image NEW=${pair.new}/image OUT=${out};`;
      const listen = `${SOCAT} TCP-LISTEN:${PORT},reuseaddr -`;
      const receiving = start(link, "receiver", `${files} ${listen} | ${decode}; sync $OUT`);
      const received = ended(receiving, name);
      await link.listening("receiver", PORT);
      const connect = `${SOCAT} - TCP:${ADDRESSES.receiver}:${PORT}`;
      const sending = start(link, "sender", `${files} ${encode} | ${connect}`);
      await Promise.all([ended(sending, name), received]);
      return { path: out };
    },
  };
}

function patchFrom(level: number): Tool {
  const options = "--long=31 --patch-from=$OLD";
  return pipe(
    `zstd-${level}-patch-from`,
    `zstd -q -${level} ${options} -c $NEW`,
    `zstd -q -d ${options} -o $OUT`,
    // Compressing at 2 MB/s takes longer than others take for all.
    level > 9,
  );
}

function whole(level: number): Tool {
  const encode = `zstd -q -${level} -T0 ${level > 9 ? "--long=27 " : ""}-c $NEW`;
  return pipe(`zstd-${level}`, encode, "zstd -q -d --long=27 -o $OUT");
}

/** The source window is the whole old file, as else it would find little. */
function xdelta(level: number): Tool {
  const options = "-B 2147483648 -s $OLD";
  return pipe(
    `xdelta3-${level}`,
    `xdelta3 -c -e -${level} ${options} $NEW`,
    `xdelta3 -c -d ${options} > $OUT`,
  );
}

export const PIPES: readonly Tool[] = [
  patchFrom(19),
  patchFrom(9),
  patchFrom(3),
  xdelta(9),
  xdelta(1),
  whole(3),
  pipe("socat", "cat $NEW", "cat > $OUT"),
];

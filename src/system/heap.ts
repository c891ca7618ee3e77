import { setFlagsFromString } from "node:v8";

const FLAG = "external-memory-accounted-in-global-limit";
/** How much buffers may take before garbage is collected as eagerly as ever. */
const BUFFERS_MAX_BYTES = 224 * 2 ** 20;
const LOOK_MS = 50;

let users = 0;
let looking: NodeJS.Timeout | undefined;
let isSet = false;

function set(on: boolean): void {
  if (on === isSet) return;
  isSet = on;
  setFlagsFromString(`--${on ? "" : "no-"}${FLAG}`);
}

function look(): void {
  set(process.memoryUsage().external < BUFFERS_MAX_BYTES);
}

/**
 * While much passes through buffers, V8 collects garbage whenever another 64 MiB of them were taken,
 * which costs more processor time than what is done with them. Until the function given back is
 * called their size is judged with the heap's, unless they take more than 224 MiB.
 */
export function growingBuffers(): () => void {
  users += 1;
  if (users === 1) {
    look();
    looking = setInterval(look, LOOK_MS).unref();
  }
  let over = false;
  return () => {
    if (over) return;
    over = true;
    users -= 1;
    if (users > 0) return;
    clearInterval(looking);
    set(false);
  };
}

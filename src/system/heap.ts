import { setFlagsFromString } from "node:v8";

const FLAG = "external-memory-accounted-in-global-limit";
let users = 0;

/**
 * While much passes through buffers, V8 collects garbage whenever another 64 MiB of them were taken,
 * which costs more processor time than what is done with them. Until the function given back is
 * called their size is judged with the heap's, which lets some 100 MiB more be taken at a time.
 */
export function growingBuffers(): () => void {
  users += 1;
  if (users === 1) setFlagsFromString(`--${FLAG}`);
  let over = false;
  return () => {
    if (over) return;
    over = true;
    users -= 1;
    if (users === 0) setFlagsFromString(`--no-${FLAG}`);
  };
}

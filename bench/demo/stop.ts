/** Ends what a demo left running; `make clean` then removes its files. */
import { endDemo } from "./clouds.ts";

await endDemo();

/** The simulator: federations of many clouds in discrete events, with the real decisions. */
export type * from "./contract.ts";

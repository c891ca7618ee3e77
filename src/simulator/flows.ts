/** Bytes on their way between clouds, at the rates of the network. */
import type { Clouds } from "./clouds.ts";
import { EVENT } from "./event-kinds.ts";
import type { EventQueue } from "./event-queue.ts";
import { FairNetwork } from "./fair-network.ts";

/** TCP's initial window (RFC 6928) with segments of 1,460 bytes, in bits. */
const WINDOW_FIRST_BITS = 10 * 1460 * 8;

/** What a flow carries and what is done when it has come. */
export interface Job {
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
  readonly kind: "components" | "user-data" | "prefetch" | "memory";
  /** The course, for all but prefetches. */
  readonly course: number;
  /** Components that have come with it. */
  readonly components: readonly number[];
  /** What the sender makes of it at most, in bits per second; absent means no bound. */
  readonly most_bps?: number;
}

interface Flow {
  readonly job: Job;
  bitsLeft: number;
  rate: number;
  updated_s: number;
  end: number;
  ramp: number;
}

export interface Carried {
  readonly job: Job;
  /** Bytes that crossed the wire. */
  readonly bytes: number;
}

export class Flows {
  readonly #network: FairNetwork;
  readonly #flows: (Flow | undefined)[] = [];
  readonly #queue: EventQueue;
  readonly #clouds: Clouds;
  readonly #rampUp: boolean;
  #stale = false;

  constructor(queue: EventQueue, clouds: Clouds, rampUp: boolean) {
    this.#queue = queue;
    this.#clouds = clouds;
    this.#rampUp = rampUp;
    const capacities = new Float64Array(2 * clouds.count);
    for (let cloud = 0; cloud < clouds.count; cloud += 1) {
      capacities[2 * cloud] = clouds.uplink_bps[cloud] as number;
      capacities[2 * cloud + 1] = clouds.downlink_bps[cloud] as number;
    }
    this.#network = new FairNetwork(capacities);
  }

  start(job: Job): void {
    const { from, to, bytes } = job;
    const cap = this.#mostOf(job);
    const roundTrip_s = this.#clouds.roundTrip_s(from, to);
    const first = this.#rampUp ? Math.min(cap, WINDOW_FIRST_BITS / roundTrip_s) : cap;
    const flow = this.#network.add([2 * from, 2 * to + 1], first);
    const now_s = this.#queue.now_s;
    const ramp = first < cap ? this.#queue.add(now_s + roundTrip_s, EVENT.flowRamp, flow) : -1;
    this.#flows[flow] = { job, bitsLeft: bytes * 8, rate: 0, updated_s: now_s, end: -1, ramp };
    this.#stale = true;
  }

  /** With the links idle. */
  #mostOf({ from, to, most_bps = Number.POSITIVE_INFINITY }: Job): number {
    return Math.min(this.#clouds.pairRate(from, to), most_bps);
  }

  /** A round trip of slow start is over: twice the rate, until the links hold the flow lower. */
  ramp(index: number): void {
    const flow = this.#flows[index];
    if (flow === undefined) return;
    const { from, to } = flow.job;
    const most = this.#mostOf(flow.job);
    const cap = this.#network.capOf(index);
    const held = this.#network.rateOf(index) < cap;
    const next = held ? most : Math.min(most, 2 * cap);
    this.#network.setCap(index, next);
    const at_s = this.#queue.now_s + this.#clouds.roundTrip_s(from, to);
    flow.ramp = next < most ? this.#queue.add(at_s, EVENT.flowRamp, index) : -1;
    this.#stale = true;
  }

  /** The flow's end has come. */
  end(index: number): Job | undefined {
    const flow = this.#flows[index];
    if (flow === undefined) return undefined;
    flow.end = -1;
    this.#drop(index, flow);
    return flow.job;
  }

  /** Ends all flows that match before they are whole. */
  cancel(matches: (job: Job) => boolean): Carried[] {
    const carried: Carried[] = [];
    for (const [index, flow] of this.#flows.entries()) {
      if (flow === undefined || !matches(flow.job)) continue;
      this.#progress(flow);
      carried.push({ job: flow.job, bytes: flow.job.bytes - Math.max(0, flow.bitsLeft) / 8 });
      this.#drop(index, flow);
    }
    return carried;
  }

  /** Nothing is on its way to the cloud. */
  isIdle(to: number): boolean {
    return this.#network.countOn(2 * to + 1) === 0;
  }

  #drop(index: number, flow: Flow): void {
    if (flow.end >= 0) this.#queue.remove(flow.end);
    if (flow.ramp >= 0) this.#queue.remove(flow.ramp);
    this.#network.remove(index);
    this.#flows[index] = undefined;
    this.#stale = true;
  }

  #progress(flow: Flow): void {
    const now_s = this.#queue.now_s;
    flow.bitsLeft -= flow.rate * (now_s - flow.updated_s);
    flow.updated_s = now_s;
  }

  /** To be called after each event: brings rates and the times of ends up to date. */
  settle(): void {
    if (!this.#stale) return;
    this.#stale = false;
    const network = this.#network;
    network.settle();
    for (let at = 0; at < network.changedCount; at += 1)
      this.#reschedule(network.changed[at] as number);
    network.clearChanges();
  }

  #reschedule(index: number): void {
    const flow = this.#flows[index];
    if (flow === undefined) return;
    this.#progress(flow);
    flow.rate = this.#network.rateOf(index);
    const end_s = this.#queue.now_s + Math.max(0, flow.bitsLeft) / flow.rate;
    if (flow.end >= 0) this.#queue.move(flow.end, end_s);
    else flow.end = this.#queue.add(end_s, EVENT.flowEnd, index);
  }
}

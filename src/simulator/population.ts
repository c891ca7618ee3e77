/** Machines: where they are, what they are made of, how busy they are. Arrays by machine. */

const NONE = -1;

export class Population {
  readonly capacity: number;
  /** Slots that were ever taken: machines are below this number. */
  used = 0;
  alive = 0;
  /** NONE where there is no machine. */
  readonly cloud: Int32Array;
  readonly revision: Int32Array;
  readonly userDataBytes: Float64Array;
  /** CPUs in demand. */
  readonly load: Float64Array;
  /** Bytes a second that it writes to its memory; empty where no machine moves while it runs. */
  readonly dirty_Bps: Float64Array;
  /** The cloud that it left last, which keeps its copy, and when. */
  readonly cloudBefore: Int32Array;
  readonly left_s: Float64Array;
  /** 1 while a migration is under way. */
  readonly moving: Uint8Array;
  /** Handles of its coming events; NONE for none. */
  readonly endHandle: Int32Array;
  readonly loadHandle: Int32Array;
  /** By cloud. */
  readonly countOf: Int32Array;

  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #before: Int32Array;
  readonly #free: number[] = [];

  constructor(capacity: number, clouds: number, hot: boolean) {
    this.capacity = capacity;
    const integers = (): Int32Array => new Int32Array(capacity).fill(NONE);
    this.cloud = integers();
    this.revision = integers();
    this.cloudBefore = integers();
    this.endHandle = integers();
    this.loadHandle = integers();
    this.#next = integers();
    this.#before = integers();
    this.userDataBytes = new Float64Array(capacity);
    this.load = new Float64Array(capacity);
    this.dirty_Bps = new Float64Array(hot ? capacity : 0);
    this.left_s = new Float64Array(capacity);
    this.moving = new Uint8Array(capacity);
    this.countOf = new Int32Array(clouds);
    this.#heads = new Int32Array(clouds).fill(NONE);
  }

  /** A slot for a new machine; undefined where all are taken. */
  add(cloud: number, revision: number): number | undefined {
    const machine = this.#free.pop() ?? (this.used < this.capacity ? this.used++ : undefined);
    if (machine === undefined) return undefined;
    this.revision[machine] = revision;
    this.cloudBefore[machine] = NONE;
    this.moving[machine] = 0;
    this.alive += 1;
    this.#enter(machine, cloud);
    return machine;
  }

  remove(machine: number): void {
    this.#leave(machine);
    this.cloud[machine] = NONE;
    this.alive -= 1;
    this.#free.push(machine);
  }

  /** To another cloud; the old one keeps the copy. */
  move(machine: number, cloud: number, now_s: number): void {
    this.cloudBefore[machine] = this.cloud[machine] as number;
    this.left_s[machine] = now_s;
    this.#leave(machine);
    this.#enter(machine, cloud);
  }

  /** Machines of a cloud that are not on their way. */
  idleOf(cloud: number, most = Number.POSITIVE_INFINITY): number[] {
    const machines: number[] = [];
    let machine = this.#heads[cloud] as number;
    for (; machine !== NONE && machines.length < most; machine = this.#next[machine] as number) {
      if (this.moving[machine] === 0) machines.push(machine);
    }
    return machines;
  }

  #enter(machine: number, cloud: number): void {
    const head = this.#heads[cloud] as number;
    this.cloud[machine] = cloud;
    this.#next[machine] = head;
    this.#before[machine] = NONE;
    if (head !== NONE) this.#before[head] = machine;
    this.#heads[cloud] = machine;
    this.countOf[cloud] = (this.countOf[cloud] as number) + 1;
  }

  #leave(machine: number): void {
    const cloud = this.cloud[machine] as number;
    const next = this.#next[machine] as number;
    const before = this.#before[machine] as number;
    if (before === NONE) this.#heads[cloud] = next;
    else this.#next[before] = next;
    if (next !== NONE) this.#before[next] = before;
    this.countOf[cloud] = (this.countOf[cloud] as number) - 1;
  }
}

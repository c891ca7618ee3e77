/** What happens when: a heap of four children over typed arrays, which allocates only to grow. */

const ARITY = 4;
const SLOTS_FIRST = 1024;

export class EventQueue {
  /** Of the event that `pop` took last. */
  now_s = 0;
  kind = 0;
  subject = 0;
  detail = 0;
  /** Events taken so far. */
  taken = 0;

  #size = 0;
  #sequence = 0;
  #free = -1;
  /** By place in the heap: keys beside each other, as siblings are compared. */
  #times = new Float64Array(SLOTS_FIRST);
  #orders = new Float64Array(SLOTS_FIRST);
  #handles = new Int32Array(SLOTS_FIRST);
  /** By handle: its place, or the next free handle. */
  #places = new Int32Array(SLOTS_FIRST);
  #kinds = new Uint8Array(SLOTS_FIRST);
  #subjects = new Int32Array(SLOTS_FIRST);
  #details = new Int32Array(SLOTS_FIRST);
  #handlesUsed = 0;

  get size(): number {
    return this.#size;
  }

  /**
   * Events of one time come in the order in which they were added.
   *
   * @returns a handle, which is valid until the event was taken or removed
   */
  add(time_s: number, kind: number, subject: number, detail = 0): number {
    const handle = this.#takeHandle();
    this.#kinds[handle] = kind;
    this.#subjects[handle] = subject;
    this.#details[handle] = detail;
    this.#rise(this.#size++, time_s, this.#sequence++, handle);
    return handle;
  }

  /** The event comes at another time, after those that were already set for it. */
  move(handle: number, time_s: number): void {
    const place = this.#places[handle] as number;
    const earlier = time_s < (this.#times[place] as number);
    if (earlier) this.#rise(place, time_s, this.#sequence++, handle);
    else this.#sink(place, time_s, this.#sequence++, handle);
  }

  remove(handle: number): void {
    const place = this.#places[handle] as number;
    this.#takeOut(place);
    this.#release(handle);
  }

  /** Takes the next event into `now_s`, `kind`, `subject` and `detail`; false where there is none. */
  pop(): boolean {
    if (this.#size === 0) return false;
    const handle = this.#handles[0] as number;
    this.now_s = this.#times[0] as number;
    this.kind = this.#kinds[handle] as number;
    this.subject = this.#subjects[handle] as number;
    this.detail = this.#details[handle] as number;
    this.taken += 1;
    this.#takeOut(0);
    this.#release(handle);
    return true;
  }

  /** Infinity where there is none. */
  nextTime_s(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : (this.#times[0] as number);
  }

  #takeHandle(): number {
    if (this.#free >= 0) {
      const handle = this.#free;
      this.#free = this.#places[handle] as number;
      return handle;
    }
    if (this.#handlesUsed === this.#places.length) this.#grow();
    return this.#handlesUsed++;
  }

  #release(handle: number): void {
    this.#places[handle] = this.#free;
    this.#free = handle;
  }

  /** Fills the hole at `place` with the last entry. */
  #takeOut(place: number): void {
    const last = --this.#size;
    if (place === last) return;
    const time_s = this.#times[last] as number;
    const order = this.#orders[last] as number;
    const handle = this.#handles[last] as number;
    const up = place > 0 && this.#before(time_s, order, (place - 1) >> 2);
    if (up) this.#rise(place, time_s, order, handle);
    else this.#sink(place, time_s, order, handle);
  }

  #before(time_s: number, order: number, place: number): boolean {
    const other_s = this.#times[place] as number;
    return time_s < other_s || (time_s === other_s && order < (this.#orders[place] as number));
  }

  #rise(from: number, time_s: number, order: number, handle: number): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 2;
      if (!this.#before(time_s, order, parent)) break;
      this.#copy(parent, place);
      place = parent;
    }
    this.#put(place, time_s, order, handle);
  }

  #sink(from: number, time_s: number, order: number, handle: number): void {
    const size = this.#size;
    let place = from;
    for (;;) {
      const first = place * ARITY + 1;
      if (first >= size) break;
      const end = Math.min(first + ARITY, size);
      let least = first;
      for (let child = first + 1; child < end; child += 1) {
        if (this.#before(this.#times[child] as number, this.#orders[child] as number, least)) {
          least = child;
        }
      }
      if (this.#before(time_s, order, least)) break;
      this.#copy(least, place);
      place = least;
    }
    this.#put(place, time_s, order, handle);
  }

  #copy(from: number, to: number): void {
    const handle = this.#handles[from] as number;
    this.#put(to, this.#times[from] as number, this.#orders[from] as number, handle);
  }

  #put(place: number, time_s: number, order: number, handle: number): void {
    this.#times[place] = time_s;
    this.#orders[place] = order;
    this.#handles[place] = handle;
    this.#places[handle] = place;
  }

  #grow(): void {
    const length = this.#places.length * 2;
    this.#times = copied(new Float64Array(length), this.#times);
    this.#orders = copied(new Float64Array(length), this.#orders);
    this.#handles = copied(new Int32Array(length), this.#handles);
    this.#places = copied(new Int32Array(length), this.#places);
    this.#kinds = copied(new Uint8Array(length), this.#kinds);
    this.#subjects = copied(new Int32Array(length), this.#subjects);
    this.#details = copied(new Int32Array(length), this.#details);
  }
}

function copied<T extends { set(from: T): void }>(to: T, from: T): T {
  to.set(from);
  return to;
}

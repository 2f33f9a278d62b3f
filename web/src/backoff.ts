/** Waiting times between tries: twice as long each time, up to a bound, with some chance in it. */

const FIRST_MS = 1000;
const LONGEST_MS = 30_000;

export class Backoff {
  private tries = 0;

  /** The next waiting time; random by a quarter, so that many browsers don't return all at once. */
  next(): number {
    const wait = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.tries);
    this.tries += 1;
    return wait * (0.75 + Math.random() * 0.5);
  }

  reset(): void {
    this.tries = 0;
  }
}

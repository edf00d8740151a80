// When to connect again, after a connection failed or broke. clients/retry.py does the same.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;

/**
 * The delay before an attempt, in milliseconds. Delays double up to a limit; half of each is random, so that clients
 * that lost the same server do not all return at once ("equal jitter").
 *
 * @param {number} attempt from 1
 * @param {number} draw random number from 0 to 1
 */
export function backoffMs(attempt, draw = Math.random()) {
  const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(attempt - 1, 20));
  return Math.round(longest * (0.5 + draw / 2));
}

/**
 * Numbers the attempts of an outage. Only progress ends an outage: if sessions open but break on the same audio each
 * time, delays still grow.
 */
export class Attempts {
  constructor() {
    this._progress = 0;
    this._attempts = 0;
  }

  /**
   * A connection failed or broke.
   * @param {number} progress any measure that grows while the stream advances
   * @returns {number} the number of the attempt that follows, from 1
   */
  failed(progress) {
    if (progress > this._progress) {
      this._progress = progress;
      this._attempts = 0;
    }
    this._attempts += 1;
    return this._attempts;
  }
}

/** Coalesce jobs: at most two run at a time, the last one submitted always runs, and what it overtakes is aborted. */

const MOST = 2;

export class Latest {
  /** @type {Map<number, AbortController>} */
  #running = new Map();
  /** @type {((signal: AbortSignal) => Promise<any>)|null} */
  #waiting = null;
  #count = 0;

  /**
   * @param {(result: any) => void} show
   * @param {(error: Error) => void} fail called for the last job only
   * @param {(busy: boolean) => void} [report] whether something is running
   */
  constructor(show, fail, report = () => {}) {
    this.show = show;
    this.fail = fail;
    this.report = report;
  }

  /** @param {(signal: AbortSignal) => Promise<any>} job takes the place of a job that has not started */
  submit(job) {
    this.#waiting = job;
    this.#start();
  }

  stop() {
    this.#waiting = null;
    this.#abortBefore(Infinity);
  }

  /** Older jobs keep running while newer ones do: otherwise a slider that moves fast would show nothing until it rests. */
  async #start() {
    if (!this.#waiting || this.#running.size >= MOST) return;
    const job = this.#waiting;
    const number = ++this.#count;
    const control = new AbortController();
    this.#waiting = null;
    this.#running.set(number, control);
    this.report(true);
    try {
      const result = await job(control.signal);
      if (control.signal.aborted) return;
      this.#abortBefore(number);
      this.show(result);
    } catch (error) {
      if (!control.signal.aborted && number === this.#count && !this.#waiting) this.fail(error);
    } finally {
      this.#running.delete(number);
      this.#start();
      if (!this.#running.size) this.report(false);
    }
  }

  #abortBefore(number) {
    for (const [other, control] of this.#running) {
      if (other < number) {
        control.abort();
        this.#running.delete(other);
      }
    }
  }
}

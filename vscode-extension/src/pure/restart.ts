/**
 * Runs of one task that never overlap: while one runs, any number of further calls become one more run after it.
 * Every caller's promise settles with the run that began after the call.
 */
export class Coalesced {
  private running: Promise<void> | undefined;
  private waiting: Promise<void> | undefined;

  constructor(private readonly task: () => Promise<void>) {}

  run(): Promise<void> {
    if (this.running === undefined) {
      return this.begin();
    }
    this.waiting ??= this.running.then(
      () => this.next(),
      () => this.next(),
    );
    return this.waiting;
  }

  private next(): Promise<void> {
    this.waiting = undefined;
    return this.begin();
  }

  private begin(): Promise<void> {
    const run = Promise.resolve()
      .then(this.task)
      .finally(() => {
        this.running = undefined;
      });
    this.running = run;
    return run;
  }
}

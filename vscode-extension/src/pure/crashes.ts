export const MOST_CRASHES = 4;
export const WITHIN_MS = 3 * 60 * 1000;

/** Whether a server that died is started once more: not after the fourth time within three minutes. */
export class Crashes {
  private times: number[] = [];

  /** Take note of a crash at `now` (milliseconds); true if the server may be started again. */
  mayRestart(now: number): boolean {
    this.times = [...this.times.filter((time) => now - time < WITHIN_MS), now];
    return this.times.length < MOST_CRASHES;
  }

  /** The user starts it by hand: what was is forgotten. */
  forget(): void {
    this.times = [];
  }
}

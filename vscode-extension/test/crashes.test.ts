import { expect, test } from "vitest";
import { Crashes, WITHIN_MS } from "../src/pure/crashes";

test("three crashes are forgiven, the fourth within three minutes is not", () => {
  const crashes = new Crashes();
  expect([0, 1000, 2000, 3000].map((now) => crashes.mayRestart(now))).toEqual([true, true, true, false]);
});

test("crashes that lie further apart are forgiven for ever", () => {
  const crashes = new Crashes();
  const often = Array.from({ length: 20 }, (_, n) => crashes.mayRestart((n * WITHIN_MS) / 3));
  expect(often).toEqual(often.map(() => true));
});

test("a crash exactly three minutes old no longer counts", () => {
  const crashes = new Crashes();
  [0, 1, 2].forEach((now) => crashes.mayRestart(now));
  expect(crashes.mayRestart(WITHIN_MS)).toBe(true);
  const late = new Crashes();
  [0, 1, 2].forEach((now) => late.mayRestart(now));
  expect(late.mayRestart(WITHIN_MS - 1)).toBe(false);
});

test("a restart by hand begins anew", () => {
  const crashes = new Crashes();
  [0, 1, 2, 3].forEach((now) => crashes.mayRestart(now));
  crashes.forget();
  expect(crashes.mayRestart(4)).toBe(true);
});

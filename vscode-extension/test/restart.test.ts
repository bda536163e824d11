import { expect, test } from "vitest";
import { Coalesced } from "../src/pure/restart";

/** A task whose runs end when they are told to. */
function steps(): { task: () => Promise<void>; ends: ((error?: Error) => void)[] } {
  const ends: ((error?: Error) => void)[] = [];
  const task = (): Promise<void> =>
    new Promise((resolve, reject) => {
      ends.push((error) => {
        if (error) {
          reject(error);
        } else {
          resolve();
        }
      });
    });
  return { task, ends };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("calls during a run become one more run", async () => {
  const { task, ends } = steps();
  const restarts = new Coalesced(task);
  const first = restarts.run();
  await settle();
  const others = [restarts.run(), restarts.run(), restarts.run()];
  expect(ends).toHaveLength(1);
  ends[0]?.();
  await first;
  await settle();
  expect(ends).toHaveLength(2);
  ends[1]?.();
  await Promise.all(others);
  expect(ends).toHaveLength(2);
});

test("a call during the run that waited waits for another", async () => {
  const { task, ends } = steps();
  const restarts = new Coalesced(task);
  void restarts.run();
  await settle();
  void restarts.run();
  ends[0]?.();
  await settle();
  const third = restarts.run();
  ends[1]?.();
  await settle();
  expect(ends).toHaveLength(3);
  ends[2]?.();
  await third;
});

test("a run that fails tells its caller and does not hinder the next", async () => {
  const { task, ends } = steps();
  const restarts = new Coalesced(task);
  const first = restarts.run();
  await settle();
  const second = restarts.run();
  ends[0]?.(new Error("no"));
  await expect(first).rejects.toThrow("no");
  await settle();
  ends[1]?.();
  await second;
});

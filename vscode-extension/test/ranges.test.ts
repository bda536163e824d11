import { expect, test } from "vitest";
import { shifted, shiftedByAll, type Change } from "../src/pure/ranges";

const apply = (text: string, { start, removed, inserted }: Change): string =>
  text.slice(0, start) + "+".repeat(inserted) + text.slice(start + removed);

test("after any change, a range that is left covers what it covered", () => {
  const text = "0123456789";
  for (let start = 0; start <= 10; start += 1) {
    for (let removed = 0; start + removed <= 10; removed += 1) {
      for (const inserted of [0, 1, 3]) {
        const change = { start, removed, inserted };
        const [left] = shifted([{ start: 3, end: 6 }], change);
        if (left) {
          expect(apply(text, change).slice(left.start, left.end)).toBe("345");
        } else {
          expect(start < 6 && start + removed > 3).toBe(true); // it reached into the range
        }
      }
    }
  }
});

test("text typed right behind a range does not belong to it, text before it moves it", () => {
  expect(shifted([{ start: 3, end: 6 }], { start: 6, removed: 0, inserted: 2 })).toEqual([{ start: 3, end: 6 }]);
  expect(shifted([{ start: 3, end: 6 }], { start: 3, removed: 0, inserted: 2 })).toEqual([{ start: 5, end: 8 }]);
});

test("several changes of one event are in offsets of the text before them", () => {
  const changes = [
    { start: 8, removed: 1, inserted: 0 },
    { start: 0, removed: 0, inserted: 5 },
    { start: 4, removed: 2, inserted: 1 },
  ];
  expect(shiftedByAll([{ start: 0, end: 2 }, { start: 4, end: 6 }, { start: 6, end: 8 }, { start: 9, end: 10 }], changes)).toEqual([
    { start: 5, end: 7 },
    { start: 10, end: 12 },
    { start: 12, end: 13 },
  ]);
});

import { expect, test } from "vitest";
import { BLOCK, compose, countLines, percentSettled, showHole, showNothing } from "../src/pure/frame";

const grey = (shown: { text: string; grey: { start: number; end: number }[] }): string[] =>
  shown.grey.map(({ start, end }) => shown.text.slice(start, end));

test("what is not settled is grey, neighbours as one block", () => {
  const shown = showHole({ text: "a░░b░", settled: [[0, 1], [3, 4]] }, 1, "\n");
  expect(shown.text).toBe("a░░b░");
  expect(grey(shown)).toEqual(["░░", "░"]);
});

test("settled offsets count characters, grey ranges UTF-16 units", () => {
  const shown = showHole({ text: "😀░é", settled: [[0, 1], [2, 3]] }, 1, "\n");
  expect(shown.grey).toEqual([{ start: 2, end: 3 }]);
});

test("lines never get fewer than asked for: the rest is filled up with blocks", () => {
  const shown = showHole({ text: "x = 1\n░", settled: [[0, 6]] }, 4, "\r\n");
  expect(countLines(shown.text)).toBe(4);
  expect(grey(shown)).toEqual([BLOCK, BLOCK, BLOCK]);
  expect(showHole({ text: "a\nb\nc", settled: [[0, 5]] }, 2, "\n").text).toBe("a\nb\nc");
});

test("before the first step the block has the shape of what it replaces", () => {
  const shown = showNothing("for x in y:\r\n    use(x)", "\r\n");
  expect(shown.text).toBe("░░░ ░ ░░ ░░\r\n    ░░░░░░");
  expect(grey(shown)).toEqual(["░░░", "░", "░░", "░░", "░░░░░░"]);
  expect(showNothing("", "\n").text).toBe(BLOCK);
});

test("holes are put into the text, and their grey ranges moved with them", () => {
  const one = { text: "░░", grey: [{ start: 0, end: 2 }] };
  const shown = compose("ab<1>cd<2>", [
    { start: 2, end: 5, shown: one },
    { start: 7, end: 10, shown: { text: "new ░", grey: [{ start: 4, end: 5 }] } },
  ]);
  expect(shown.text).toBe("ab░░cdnew ░");
  expect(grey(shown)).toEqual(["░░", "░"]);
  expect(compose("same", [])).toEqual({ text: "same", grey: [] });
});

test.each([
  [[{ text: "░░░░", settled: [] }], 0],
  [[{ text: "ab░░", settled: [[0, 2] as const] }], 50],
  [[{ text: "", settled: [] }], 0],
  [[{ text: "a", settled: [[0, 1] as const] }, { text: "b", settled: [[0, 1] as const] }], 100],
])("the settled share of %j is %i", (holes, expected) => {
  expect(percentSettled(holes)).toBe(expected);
});

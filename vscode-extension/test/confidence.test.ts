import { expect, test } from "vitest";
import { describe, isLikely, percent, STEPS, stepOf, summary } from "../src/pure/confidence";
import { tokensOf } from "../src/pure/last";

test.each([
  [1, 0], [0.9, 0], [0.8999, 1], [0.7, 1], [0.6999, 2], [0.4, 2], [0.3999, 3], [0, 3], [NaN, 3],
])("confidence %f is step %i", (confidence, expected) => {
  expect(stepOf(confidence)).toBe(expected);
});

test("the steps differ in their underline, not in colour alone", () => {
  expect(new Set(STEPS.map(({ underline }) => underline)).size).toBe(STEPS.length);
});

test.each([
  [1, "100 %"], [0.999, "99 %"], [0.5, "50 %"], [0.001, "1 %"], [0, "0 %"],
])("%f is read as %s", (confidence, expected) => {
  expect(percent(confidence)).toBe(expected);
});

test("the hover says the number, its step's name and when it was revealed", () => {
  expect(describe({ start: 0, end: 1, confidence: 0.55, step: 3 })).toBe("Diffill: 55 % sure (unsure), revealed at step 3");
});

test("the summary counts every step, for those who see no colours", () => {
  const token = (confidence: number) => ({ start: 0, end: 1, confidence, step: 1 });
  expect(summary([token(0.95), token(0.95), token(0.1)])).toBe("3 tokens: 2 sure, 0 likely, 0 unsure, 1 guess");
});

test("tokens of the last fill lie in its text, over several lines and line ends", () => {
  const newText = "if x:\r\n    y\n";
  const at = (line: number, character: number) => ({ line, character });
  const hole = {
    range: { start: at(4, 8), end: at(4, 8) },
    newText,
    newRange: { start: at(4, 8), end: at(6, 0) },
    tokens: [
      { range: { start: at(4, 8), end: at(4, 10) }, confidence: 0.5, step: 2 },
      { range: { start: at(5, 4), end: at(5, 5) }, confidence: 0.6, step: 1 },
    ],
  };
  expect(tokensOf(hole).map(({ start, end }) => newText.slice(start, end))).toEqual(["if", "y"]);
});

test("what is 70 % sure or more need not be ticked by hand", () => {
  expect([1, 0.7, 0.69, 0, Number.NaN].map(isLikely)).toEqual([true, true, false, false, false]);
});

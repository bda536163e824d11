import { expect, test } from "vitest";
import { isTask, nextStrength, oneLine, problemWords, strengthName } from "../src/pure/proposal";

test("strengths go up and down and end at both ends", () => {
  expect(nextStrength(0.3, 1)).toBe(0.6);
  expect(nextStrength(0.6, 1)).toBe(1);
  expect(nextStrength(1, 1)).toBeUndefined();
  expect(nextStrength(1, -1)).toBe(0.6);
  expect(nextStrength(0.3, -1)).toBeUndefined();
});

test("any number has the name of the nearest strength", () => {
  expect([0.01, 0.44, 0.5, 0.79, 0.81, 1].map(strengthName)).toEqual(["light", "light", "medium", "medium", "strong", "strong"]);
});

test("a fill of several lines fits on a chip", () => {
  expect(oneLine("\n    if x:\r\n        return 1\n")).toBe("if x: ⏎ return 1");
  expect(oneLine("abcdef", 4)).toBe("abc…");
  expect(oneLine("😀😀😀", 2)).toBe("😀…");
});

test("a doubtful proposal says why in few words", () => {
  expect(problemWords("the suggestion repeated or broke what is there: syntax_no_worse")).toBe("does not parse");
  expect(problemWords("something else")).toBe("something else");
});

test("only what has a uri is a task", () => {
  expect(isTask({ uri: "file:///a", command: "x" })).toBe(true);
  for (const other of [null, undefined, 3, {}, { uri: 3 }]) {
    expect(isTask(other)).toBe(false);
  }
});

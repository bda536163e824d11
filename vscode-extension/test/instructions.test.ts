import { expect, test } from "vitest";
import { asLabel, KEPT_INSTRUCTIONS, matching, readKept, remembered } from "../src/pure/instructions";
import { doing, doubts } from "../src/pure/proposal";

test("the last instructions are kept, newest first and each once", () => {
  expect(remembered(["b", "a"], "a")).toEqual(["a", "b"]);
  const many = Array.from({ length: 20 }, (_, number) => String(number)).reduce<string[]>(remembered, []);
  expect(many).toHaveLength(KEPT_INSTRUCTIONS);
  expect(many[0]).toBe("19");
});

test("kept instructions match by their words, in any order and case", () => {
  const kept = ["Add type hints", "use math.pi", "add a docstring"];
  expect(matching(kept, "")).toEqual(kept);
  expect(matching(kept, "  HINTS add")).toEqual(["Add type hints"]);
  expect(matching(kept, "use math.pi ")).toEqual([]); // it is typed already
  expect(matching(kept, "nothing")).toEqual([]);
});

test("only texts are read from what was kept", () => {
  expect(readKept(["a", 3, "", " ", null, "b"])).toEqual(["a", "b"]);
  for (const other of [undefined, null, "a", {}, 3]) {
    expect(readKept(other)).toEqual([]);
  }
});

test("an instruction is never shown as an icon", () => {
  expect(asLabel("call $(sync) here")).toBe("call \\$(sync) here");
});

test("a rewrite is named by its instruction, or else by its strength", () => {
  expect(doing({ uri: "file:///a", strength: 0.3 })).toEqual({ name: "light", title: "Regenerating (light)" });
  expect(doing({ uri: "file:///a", strength: 1, instruction: "shorter" })).toEqual({
    name: "“shorter”",
    title: "Rewriting: “shorter”",
  });
  expect(doing({ uri: "file:///a", instruction: "x".repeat(100) }).name).toHaveLength(50);
});

test("an answer that was cut off says so, and so does one that does not parse", () => {
  const whole = { problem: null, end: "complete" };
  expect(doubts(whole, true)).toEqual([]);
  expect(doubts({ ...whole, end: "max_tokens" }, true)).toEqual(["was cut off: it is as long as an answer may be"]);
  expect(doubts({ ...whole, end: "max_tokens" }, false)).toEqual([]);
  expect(doubts({ problem: "it broke what is there: syntax_no_worse", end: "complete" }, true)).toEqual(["does not parse"]);
});

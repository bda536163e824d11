import { expect, test } from "vitest";
import { pipArguments, pipProblem, pipProgress } from "../src/pure/pip";

test("the wheel that came with the extension is installed, and with a wheel folder nothing is asked of the network", () => {
  expect(pipArguments("/ext/wheels/diffill.whl", "").at(-1)).toBe("/ext/wheels/diffill.whl");
  expect(pipArguments("/ext/wheels/diffill.whl", "")).not.toContain("--no-index");
  expect(pipArguments(undefined, "/wheels")).toEqual(expect.arrayContaining(["--no-index", "--find-links", "/wheels", "diffill"]));
});

test.each([
  ["Collecting numpy>=1.26 (from diffill==0.1.0)", "fetching numpy"],
  ["  Downloading numpy-2.4.1-cp311-cp311-manylinux_2_27_x86_64.whl.metadata (6.6 kB)", "downloading numpy-2.4.1, 6.6 kB"],
  ["Downloading rich-14.2.0-py3-none-any.whl (243 kB)", "downloading rich-14.2.0, 243 kB"],
  ["Installing collected packages: numpy, rich, diffill", "unpacking 3 packages"],
  ["Successfully installed diffill-0.1.0", undefined],
  ["", undefined],
])("%j is told as %j", (line, expected) => {
  expect(pipProgress(line)).toBe(expected);
});

test("pip's last complaint is the reason", () => {
  const errors = "ERROR: Could not find a version that satisfies the requirement x\nERROR: No matching distribution found for x\n";
  expect(pipProblem(errors)).toBe("No matching distribution found for x.");
  expect(pipProblem("Permission denied.\n")).toBe("Permission denied.");
  expect(pipProblem("")).toBe("no reason was given.");
});

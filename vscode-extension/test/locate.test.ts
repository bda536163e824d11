import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { candidates, choose, expandHome, onPath, PROBE_SCRIPT, readProbe, type Candidate, type Probe } from "../src/pure/locate";

const PLACES = { setting: "", own: "/own/python", extension: "/ws/.venv/bin/python", path: ["/usr/bin/python3"], trusted: true };
const NEW: Probe = { python: [3, 12], diffill: null, venv: true };
const WITH: Probe = { ...NEW, diffill: "0.1.0" };
const at = (path: string, place: Candidate["place"] = "path"): Candidate => ({ place, path });

test("the order is own environment, Python extension, PATH", () => {
  expect(candidates(PLACES, "/home/ada").map(({ place }) => place)).toEqual(["own", "extension", "path"]);
});

test("a setting leaves no other choice", () => {
  expect(candidates({ ...PLACES, setting: " ~/py/bin/python " }, "/home/ada")).toEqual([at("/home/ada/py/bin/python", "setting")]);
});

test("a workspace that is not trusted does not choose the interpreter", () => {
  expect(candidates({ ...PLACES, trusted: false }, "/home/ada").map(({ place }) => place)).toEqual(["own", "path"]);
});

test("an interpreter that is found twice is asked once", () => {
  expect(candidates({ ...PLACES, extension: "/usr/bin/python3" }, "/h")).toHaveLength(2);
});

test.each([
  ["~", "/h"],
  ["~/x", "/h/x"],
  ["~ada/x", "~ada/x"],
  ["/a/~", "/a/~"],
])("%s is %s", (path, expected) => {
  expect(expandHome(path, "/h")).toBe(expected);
});

test("names are looked for in the order of the PATH, the first name first, and relative folders left out", () => {
  const there = new Set(["/b/python", "/c/python3", "./python3", "/b/python3"]);
  const found = onPath("/a:/b/:.::/c", ["python3", "python"], false, (file) => there.has(file));
  expect(found).toEqual(["/b/python3", "/c/python3", "/b/python"]);
});

test("on Windows the PATH has semicolons and programs end in .exe", () => {
  expect(onPath("C:\\Py\\;relative", ["python"], true, () => true)).toEqual(["C:\\Py\\python.exe"]);
});

test("a real Python answers the probe", () => {
  const output = execFileSync("python3", ["-c", PROBE_SCRIPT], { encoding: "utf8", cwd: "/" });
  expect(readProbe(output)?.python[0]).toBe(3);
});

test.each(["", "not json", "[]", "{}", '{"python": "3.12"}', '{"python": [null, 1]}'])("%j is no answer to the probe", (output) => {
  expect(readProbe(output)).toBeUndefined();
});

test("what a Python prints before its answer is passed over", () => {
  expect(readProbe('hello\n{"python": [3, 11], "diffill": "1", "venv": false}\n')).toEqual({ python: [3, 11], diffill: "1", venv: false });
});

test("the first Python that has Diffill is taken, though another comes before it", () => {
  const choice = choose([[at("/a"), NEW], [at("/b"), WITH], [at("/c"), WITH]]);
  expect(choice).toEqual({ kind: "use", candidate: at("/b"), version: "0.1.0" });
});

test("without Diffill, the first that can make environments installs it, but never the own environment", () => {
  const choice = choose([[at("/own", "own"), NEW], [at("/a"), { ...NEW, venv: false }], [at("/b"), NEW]]);
  expect(choice).toEqual({ kind: "install", base: at("/b") });
});

test("an installation anew does not stop at what is there", () => {
  expect(choose([[at("/b"), WITH]], true)).toEqual({ kind: "install", base: at("/b") });
});

test.each<[string, [Candidate, Probe | undefined][], RegExp]>([
  ["a setting that names nothing", [[at("/x", "setting"), undefined]], /diffill\.python names \/x, which is no Python/],
  ["a setting that names an old Python", [[at("/x", "setting"), { ...WITH, python: [3, 9] }]], /names Python 3\.9; Diffill needs 3\.10/],
  ["a Python that is too old", [[at("/x"), { ...WITH, python: [2, 7] }]], /needs Python 3\.10 or newer; found was 2\.7/],
  ["no Python", [], /none was found/],
  ["a Python without venv", [[at("/x"), { ...NEW, venv: false }]], /venv is missing/],
])("%s is said in one sentence", (_, found, expected) => {
  const choice = choose(found);
  expect(choice.kind).toBe("none");
  expect(choice.kind === "none" ? choice.sentence : "").toMatch(expected);
});

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { counted, detailOf, latency, view, type ServerStatus, type Situation } from "../src/pure/wording";

const SERVER: ServerStatus = { state: "idle", model: "embedded", lastLatencyMs: 81.4, lastSilence: null };
const NOW: Situation = { phase: "running", trusted: true, uri: "file:///a.py", server: SERVER };
const silent = (reason: string, message = `why ${reason}`, uri: string | null = "file:///a.py"): Situation => ({
  ...NOW,
  server: { ...SERVER, lastSilence: { reason, message, uri } },
});

test.each<[Partial<Situation>, string]>([
  [{}, "ready"],
  [{ server: undefined }, "ready"],
  [{ phase: "starting" }, "starting"],
  [{ phase: "installing" }, "installing"],
  [{ phase: "missing" }, "not installed"],
  [{ phase: "failed" }, "error"],
  [{ phase: "stopped" }, "stopped"],
  [{ server: { ...SERVER, state: "working" } }, "ready"],
  [{ server: { ...SERVER, state: "loading" } }, "loading"],
  [{ server: { ...SERVER, state: "paused" } }, "paused"],
  [{ server: { ...SERVER, state: "down" } }, "error"],
  [{ trusted: false }, "paused"],
  [{ pausedHere: "file" }, "paused"],
  [{ pausedHere: "language" }, "paused"],
])("%j is shown as %s", (more, expected) => {
  expect(view({ ...NOW, ...more }).state).toBe(expected);
});

test("two states never have the same words", () => {
  const shown = [
    view(NOW),
    view({ ...NOW, phase: "failed" }),
    view({ ...NOW, pausedHere: "file" }),
    view({ ...NOW, pausedHere: "language" }),
    view({ ...NOW, trusted: false }),
    view({ ...NOW, server: { ...SERVER, state: "paused" } }),
    view({ ...NOW, server: { ...SERVER, state: "loading" } }),
  ];
  expect(new Set(shown.map(({ detail }) => detail)).size).toBe(shown.length);
});

test("a file that is excluded says so, another one does not", () => {
  const now = silent("excluded", "this file is excluded: .env matches .env*");
  expect(view(now).state).toBe("off here");
  expect(view(now).lines.join("\n")).toContain(".env matches .env*");
  expect(view({ ...now, uri: "file:///b.py" }).state).toBe("ready");
  expect(view({ ...now, uri: "file:///b.py" }).lines.join("\n")).not.toContain(".env");
});

// The reasons as the server has them: none may be without words here.
const reasons = [...readFileSync("../lsp_server/silence.py", "utf8").matchAll(/^ {4}"(\w+)": "(.+)",$/gm)];

test("the server's list of reasons is read", () => {
  expect(reasons.length).toBeGreaterThanOrEqual(16);
});

test.each(reasons.map(([, reason, message]) => [reason ?? "", message ?? ""]))("%s is told in the tooltip", (reason, message) => {
  expect(view(silent(reason, message)).lines.join("\n")).toContain(message);
});

test("the detail line tells a lasting reason, and nothing of those that come with every key", () => {
  expect(detailOf(silent("low_confidence", "the model was not sure enough"))).toContain("not sure enough");
  expect(detailOf(silent("mid_word"))).toBe("embedded · 81 ms");
  expect(detailOf(NOW)).toBe("embedded · 81 ms");
});

test("a model process that is down says why", () => {
  const down = silent("runtime_down", "the model process does not answer: it was killed");
  expect(view({ ...down, server: { ...down.server, state: "down" } as ServerStatus }).detail).toContain("it was killed");
});

test("numbers are read as people do", () => {
  expect(latency(81.4)).toBe("81 ms");
  expect(latency(1900)).toBe("1.9 s");
  expect(counted({ offered: 9, shown: 3, accepted: 1 })).toMatch(/^1 of 3 suggestions taken/);
  expect(counted({ offered: 1, shown: 1, accepted: 0 })).toMatch(/^0 of 1 suggestion taken/);
});

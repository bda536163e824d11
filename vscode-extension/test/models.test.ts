import { expect, test } from "vitest";
import { entry, fits, question, readModels, readStep, shownStep, size } from "../src/pure/models";

const LISTED = JSON.stringify([
  { name: "embedded", license: "Apache-2.0", size_bytes: 32_600_000, parameters: 6_222_000, backends: ["onnx", "torch"] },
  { name: "far", license: null, size_bytes: 15_000_000_000, installed: false },
  { no: "model" },
  3,
]);

test("a list of models is read, and what is none left out", () => {
  const models = readModels(LISTED);
  expect(models.map(({ name }) => name)).toEqual(["embedded", "far"]);
  expect(models[0]?.backends).toEqual(["onnx", "torch"]);
  expect(models[1]).toMatchObject({ licence: "not stated", here: false });
  expect(() => readModels("no json")).toThrow();
  expect(readModels("{}")).toEqual([]);
});

test("an entry says licence, size, and whether it fits", () => {
  const [embedded, far] = readModels(LISTED);
  const shown = embedded && entry(embedded, "embedded", 8e9);
  expect(shown?.description).toBe("in use");
  expect(shown?.detail).toBe("licence Apache-2.0 · 6.2 M parameters · 33 MB · fits this machine (8.0 GB of memory)");
  expect(far && entry(far, "embedded", 8e9).description).toBe("not on this machine");
  expect(far && fits(far, 8e9)).toMatch(/too large/);
  expect(far && fits({ ...far, sizeBytes: undefined }, 8e9)).toBe("size not known");
});

test("which models follow instructions is read, and none is taken to that is not said to", () => {
  const listed = [{ name: "a", instructions: true }, { name: "b", instructions: false }, { name: "c" }];
  expect(readModels(JSON.stringify(listed)).map(({ instructions }) => instructions)).toEqual([true, false, false]);
});

test.each([[0, "0 B"], [999, "999 B"], [1000, "1.0 kB"], [32_600_000, "33 MB"], [7.6e9, "7.6 GB"]])("%d bytes are %s", (bytes, expected) => {
  expect(size(bytes)).toBe(expected);
});

const OFFERED = JSON.stringify([
  {
    name: "dream-coder-7b-base",
    title: "Dream-Coder 7B Base",
    installed: false,
    use: "fills holes",
    instructions: false,
    license: "Apache-2.0",
    license_terms: "use is free",
    license_url: "https://licence.test",
    license_accepted: false,
    size_bytes: 15_240_000_000,
    parameters: 7_615_600_000,
    fits: "fits this machine: nf4 on the accelerator",
    missing: "torch",
  },
]);

test("what the command line says of fit and use is shown as it says it", () => {
  const [model] = readModels(OFFERED);
  expect(model && entry(model, "embedded", 8e9).detail).toBe(
    "licence Apache-2.0 · 7.6 B parameters · 15 GB · fits this machine: nf4 on the accelerator · fills holes",
  );
});

test("before a download licence, size, fit and what is missing are told, and the licence accepted once", () => {
  const [model] = readModels(OFFERED);
  const asked = model && question(model);
  expect(asked?.message).toBe("Accept the licence of Dream-Coder 7B Base and download it?");
  for (const part of ["Apache-2.0 — use is free", "https://licence.test", "about 15 GB", "Fits this machine: nf4", "diffill[torch]"]) {
    expect(asked?.detail).toContain(part);
  }
  expect(model && question({ ...model, accepted: true }).message).toBe("Download Dream-Coder 7B Base?");
});

test("steps of a download are read, and other lines are not", () => {
  expect(readStep('{"file": "a", "done": 5, "total": 10}')).toEqual({ file: "a", done: 5, total: 10 });
  for (const line of ["", "no json", "[]", '{"done": "x"}', '{"file": "a", "done": 0, "total": 0}']) {
    expect(readStep(line)).toBeUndefined();
  }
});

test("progress never goes back, even if a file is sent again", () => {
  const forth = shownStep({ file: "a", done: 500_000_000, total: 1_000_000_000 }, 20);
  expect(forth).toEqual({ increment: 30, message: "a, 500 MB of 1.0 GB", percent: 50 });
  expect(shownStep({ file: "a", done: 100_000_000, total: 1_000_000_000 }, 50)).toMatchObject({ increment: 0, percent: 50 });
});

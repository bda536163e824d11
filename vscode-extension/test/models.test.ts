import { expect, test } from "vitest";
import { entry, fits, readModels, size } from "../src/pure/models";

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

test.each([[0, "0 B"], [999, "999 B"], [1000, "1.0 kB"], [32_600_000, "33 MB"], [7.6e9, "7.6 GB"]])("%d bytes are %s", (bytes, expected) => {
  expect(size(bytes)).toBe(expected);
});

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { command, levelOf, toggled } from "../src/pure/settings";

interface Property {
  default: unknown;
  type: string | string[];
  minimum?: number;
  maximum?: number;
}
const manifest = JSON.parse(readFileSync("package.json", "utf8")) as {
  contributes: {
    configuration: { properties: Record<string, Property> };
    commands: { command: string; title: string; category: string }[];
    keybindings: { key: string }[];
    colors: { id: string }[];
  };
  capabilities: { untrustedWorkspaces: { restrictedConfigurations: string[] } };
};
const properties = manifest.contributes.configuration.properties;
const server = readFileSync("../lsp_server/settings.py", "utf8");

test("there are at most 15 settings, and every one of the server's is among them", () => {
  const names = [...server.matchAll(/^ {4}"\w+": \(\s*"(\w+)"/gm)].map(([, name]) => `diffill.${name ?? ""}`);
  expect(names).toHaveLength(12);
  expect(Object.keys(properties)).toEqual(expect.arrayContaining(names));
  expect(Object.keys(properties).length).toBeLessThanOrEqual(15);
});

test("the defaults are the server's", () => {
  const fields = [...server.matchAll(/^ {4}(\w+): [\w[\], .|]+ = ([^#\n]+?)(?: +#.*)?$/gm)];
  expect(fields.length).toBeGreaterThanOrEqual(12);
  const values: Record<string, unknown> = { True: true, False: false, None: null, "()": [], '"embedded"': "embedded" };
  for (const [, field = "", value = ""] of fields.slice(0, 12)) {
    const name = `diffill.${field.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())}`;
    const expected = value in values ? values[value] : Number(value.replaceAll("_", ""));
    expect(properties[name]?.default, name).toEqual(expected);
  }
});

test("what names programs and models needs the workspace's trust", () => {
  const restricted = manifest.capabilities.untrustedWorkspaces.restrictedConfigurations;
  expect(restricted).toEqual(expect.arrayContaining(["diffill.python", "diffill.server", "diffill.wheelFolder", "diffill.model"]));
});

test("no key of ours is Tab", () => {
  expect(manifest.contributes.keybindings.filter(({ key }) => /\btab\b/i.test(key))).toEqual([]);
});

test("every command has our category and no name of the server's", () => {
  for (const { command: name, category } of manifest.contributes.commands) {
    expect(name).toMatch(/^diffill\.ui\./);
    expect(category).toBe("Diffill");
  }
});

test("a server command is a list of words, or none", () => {
  expect(command(["python", "-m", "x"])).toEqual(["python", "-m", "x"]);
  for (const none of [undefined, null, [], "python", ["python", 3], [""]]) {
    expect(command(none)).toBeUndefined();
  }
});

test("a setting is written where its value comes from", () => {
  expect(levelOf(undefined)).toBe("global");
  expect(levelOf({ globalValue: 1 })).toBe("global");
  expect(levelOf({ globalValue: 1, workspaceValue: 2 })).toBe("workspace");
  expect(levelOf({ workspaceValue: 2, workspaceFolderValue: false })).toBe("folder");
});

test("toggling twice is as before", () => {
  expect(toggled(["a"], "b")).toEqual(["a", "b"]);
  expect(toggled(toggled(["a", "c"], "b"), "b")).toEqual(["a", "c"]);
});

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { complaintAbout, complaintAboutToken, hostOf, readRemote } from "../src/pure/remote";
import { view, type Situation } from "../src/pure/wording";

const TOKEN = "t".repeat(43);

test.each(["wss://team.example:8443", "wss://team.example", " wss://10.0.0.7:8443/diffill ", "ws://127.0.0.1:9", "ws://[::1]:9", "ws://localhost:9"])(
  "%s is an address",
  (address) => {
    expect(complaintAbout(address)).toBeUndefined();
  },
);

test.each([
  ["", "like wss://"],
  ["team.example", "like wss://"],
  ["ws://team.example:8443", "begins with wss://"],
  ["ws://127.evil.example", "begins with wss://"],
  ["https://team.example", "begins with wss://"],
  ["wss://ann:secret@team.example", "the token is asked for next"],
  ["wss://team.example?token=secret", "the token is asked for next"],
  ["wss://team.example:99999", "like wss://"],
])("%s is none", (address, words) => {
  expect(complaintAbout(address)).toContain(words);
});

test("a token is what the server makes", () => {
  expect(complaintAboutToken(`${TOKEN}\n`)).toBeUndefined();
  expect(complaintAboutToken("short")).toContain("16 to 256");
  expect(complaintAboutToken("with a space in its middle")).toContain("16 to 256");
});

test("what was kept is read back, and nothing else is", () => {
  const kept = { address: "wss://team.example", token: TOKEN };
  expect(readRemote(JSON.stringify(kept))).toEqual(kept);
  expect(readRemote(JSON.stringify({ ...kept, certificates: "/ca.pem", more: 1 }))).toEqual({ ...kept, certificates: "/ca.pem" });
  for (const other of [undefined, "", "{", "null", "[]", '"x"', JSON.stringify({ ...kept, address: "http://x" }), JSON.stringify({ address: kept.address })]) {
    expect(readRemote(other)).toBeUndefined();
  }
});

test("the status says whose model is asked, and that what is written leaves the machine", () => {
  const server = { state: "idle", model: "large", server: "wss://team.example:8443/", lastLatencyMs: 81, lastSilence: null } as const;
  const now: Situation = { phase: "running", trusted: true, server };
  expect(view(now).lines).toContain("Server: team.example:8443");
  expect(view(now).icon).toBe("cloud");
  const here = view({ ...now, server: { ...server, server: null } });
  expect(here.lines.join("\n")).not.toContain("Server:");
  expect(here.icon).toBe("sparkle");
  expect(view({ ...now, server: { ...server, state: "down" } }).detail).toBe("The server does not answer");
  expect(hostOf("wss://team.example:8443/")).toBe("team.example:8443");
});

test("the commands are there, and no setting of a workspace can name a server", () => {
  const manifest = JSON.parse(readFileSync("package.json", "utf8")) as {
    contributes: { commands: { command: string }[]; configuration: { properties: Record<string, unknown> } };
  };
  const commands = manifest.contributes.commands.map(({ command }) => command);
  expect(commands).toEqual(expect.arrayContaining(["diffill.ui.connect", "diffill.ui.disconnect"]));
  expect(Object.keys(manifest.contributes.configuration.properties).length).toBeLessThanOrEqual(15);
});

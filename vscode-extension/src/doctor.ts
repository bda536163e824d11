/** The doctor's report, on the clipboard: for a bug report, without a line of the user's code in it. */
import * as vscode from "vscode";
import { diffill } from "./cli";
import { SECTION } from "./ids";
import { view } from "./pure/wording";
import type { Server } from "./server";

export async function copyReport(context: vscode.ExtensionContext, server: Server): Promise<void> {
  const model = vscode.workspace.getConfiguration(SECTION).get<string>("model", "embedded");
  const shown = view({
    phase: server.phase,
    problem: server.problem,
    server: server.status,
    trusted: vscode.workspace.isTrusted,
  });
  const { version } = context.extension.packageJSON as { version: string };
  const head = [
    `Diffill extension ${version}, ${vscode.env.appName} ${vscode.version}, ${vscode.env.remoteName ?? "local"}`,
    ...shown.lines,
    `Python: ${server.python ?? "none with Diffill"}`,
    "",
  ].join("\n");
  let body: string;
  if (server.python === undefined) {
    body = "diffill doctor: not run, for Diffill is not installed in any Python that was found.";
  } else {
    const done = await diffill(context, server, ["doctor", "--model", model], "Examining this installation");
    body = (done.output + done.errors).trim();
  }
  const report = `${head}\n${body}\n`;
  await vscode.env.clipboard.writeText(report);
  const show = "Show";
  const picked = await vscode.window.showInformationMessage("Diffill: the doctor's report is on the clipboard.", show);
  if (picked === show) {
    await vscode.window.showTextDocument(await vscode.workspace.openTextDocument({ content: report }));
  }
}

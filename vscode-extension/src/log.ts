/** Two channels: what the extension does, and what the language server says. Neither holds source text. */
import * as vscode from "vscode";

export interface Log {
  own: vscode.LogOutputChannel;
  server: vscode.LogOutputChannel;
}

/** Make the channels; they end with the extension. */
export function makeLog(context: vscode.ExtensionContext): Log {
  const own = vscode.window.createOutputChannel("Diffill", { log: true });
  const server = vscode.window.createOutputChannel("Diffill Language Server", { log: true });
  context.subscriptions.push(own, server);
  return { own, server };
}

/** Asking a server elsewhere instead of this machine's model. Its address and token are in the editor's secret storage. */
import * as vscode from "vscode";
import { complaintAbout, complaintAboutToken, hostOf, readRemote, type Remote } from "./pure/remote";
import { messageOf } from "./pure/values";
import type { Server } from "./server";

export const KEPT = "diffill.server";

/** The server that the user chose; undefined: this machine's model. */
export async function chosenRemote(context: vscode.ExtensionContext): Promise<Remote | undefined> {
  return readRemote(await context.secrets.get(KEPT));
}

/** Ask for an address, a token and whom to trust; what answers is kept and asked from now on, in every window. */
export async function connectToServer(context: vscode.ExtensionContext, server: Server): Promise<void> {
  const before = await chosenRemote(context);
  const title = "Diffill: connect to a server";
  const typed = await vscode.window.showInputBox({
    title,
    prompt: "Its address",
    placeHolder: "wss://host:port",
    ignoreFocusOut: true,
    ...(before ? { value: before.address } : {}),
    validateInput: complaintAbout,
  });
  if (typed === undefined) {
    return;
  }
  const address = typed.trim();
  const token = await vscode.window.showInputBox({
    title,
    prompt: `Your token for ${hostOf(address)}; it is kept in the editor's secret storage`,
    password: true,
    ignoreFocusOut: true,
    validateInput: complaintAboutToken,
  });
  if (token === undefined || !(await agreed(address))) {
    return;
  }
  await tryRemote(context, server, { address, token: token.trim() });
}

/** Go back to this machine's model, and forget the server. */
export async function useThisMachine(context: vscode.ExtensionContext, server: Server): Promise<void> {
  await context.secrets.delete(KEPT);
  await follow(context, server);
}

/** Do as another window did: ask the server that is kept by now. */
export async function follow(context: vscode.ExtensionContext, server: Server): Promise<void> {
  const wanted = await chosenRemote(context);
  if (server.phase === "running" && JSON.stringify(wanted) !== JSON.stringify(server.remote)) {
    await server.ask("diffill/connect", wanted ?? { address: null });
    server.remote = wanted;
  }
}

/** Connect; where the certificate is not trusted, offer to name an authority of one's own. */
async function tryRemote(context: vscode.ExtensionContext, server: Server, remote: Remote): Promise<void> {
  const progress = { location: vscode.ProgressLocation.Notification, title: `Diffill: asking ${hostOf(remote.address)}` };
  try {
    await vscode.window.withProgress(progress, () => server.ask("diffill/connect", remote));
  } catch (error) {
    const choose = "Choose the Authority's Certificate…";
    const choices = messageOf(error).includes("cannot be trusted") ? [choose] : [];
    const picked = await vscode.window.showErrorMessage(`Diffill: ${messageOf(error)}`, ...choices);
    const options = { canSelectMany: false, openLabel: "Trust This Authority", filters: { PEM: ["pem", "crt", "cer"] } };
    const file = picked === choose ? (await vscode.window.showOpenDialog(options))?.[0]?.fsPath : undefined;
    if (file !== undefined) {
      await tryRemote(context, server, { ...remote, certificates: file });
    }
    return;
  }
  server.remote = remote;
  await context.secrets.store(KEPT, JSON.stringify(remote));
}

async function agreed(address: string): Promise<boolean> {
  const go = "Connect";
  const detail =
    "The text of a file you write in is sent there for every suggestion. Files that are excluded here are never sent, and the server keeps no text.";
  const options = { modal: true, detail };
  return (await vscode.window.showWarningMessage(`Let ${hostOf(address)} suggest instead of this machine?`, options, go)) === go;
}

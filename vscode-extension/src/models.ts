/** Choosing a model: the catalog's, with what one wants to know first, or a folder. */
import { totalmem } from "node:os";
import * as vscode from "vscode";
import { complaint, diffill } from "./cli";
import { SECTION } from "./ids";
import { write } from "./pause";
import { entry, readModels, type Model } from "./pure/models";
import type { Server } from "./server";

interface Item extends vscode.QuickPickItem {
  model?: Model;
}

export async function selectModel(context: vscode.ExtensionContext, server: Server): Promise<void> {
  const done = await diffill(context, server, ["models", "list", "--json"], "Listing models");
  if (done.code !== 0) {
    throw new Error(`The models cannot be listed: ${complaint(done)}`);
  }
  const current = vscode.workspace.getConfiguration(SECTION).get<string>("model", "embedded");
  const models = readModels(done.output);
  const items: Item[] = models.map((model) => ({ ...entry(model, current, totalmem()), model }));
  if (!models.some(({ name }) => name === current)) {
    items.unshift({ label: `$(check) ${current}`, description: "in use", detail: "a folder on this machine" });
  }
  items.push({ label: "$(folder-opened) Another folder…", detail: "config.json, tokenizer.json and model.onnx or safetensors" });
  const options = { title: "Diffill: select a model", placeHolder: current, matchOnDetail: true };
  const picked = await vscode.window.showQuickPick(items, options);
  if (!picked || picked.description?.startsWith("in use")) {
    return;
  }
  if (!picked.model) {
    await chooseFolder(context, server);
  } else if (picked.model.here) {
    await use(picked.model.name);
  } else {
    await explainDownload(picked.model);
  }
}

async function chooseFolder(context: vscode.ExtensionContext, server: Server): Promise<void> {
  const dialog = { canSelectFiles: false, canSelectFolders: true, openLabel: "Use This Model" };
  const folder = (await vscode.window.showOpenDialog(dialog))?.[0]?.fsPath;
  if (folder === undefined) {
    return;
  }
  const done = await diffill(context, server, ["models", "info", folder, "--json"], "Reading the model");
  if (done.code !== 0) {
    throw new Error(`${folder} is not taken: ${complaint(done)}`);
  }
  await use(folder);
}

async function use(name: string): Promise<void> {
  await write("model", name);
  void vscode.window.setStatusBarMessage(`Diffill uses the model ${name}`, 5000);
}

/** This version downloads nothing: what the user can do instead. */
async function explainDownload(model: Model): Promise<void> {
  const text = `${model.name} is not on this machine (licence: ${model.licence}). Put its folder there, then choose it with “Another folder…”.`;
  await vscode.window.showInformationMessage(text);
}

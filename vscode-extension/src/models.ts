/** Choosing a model: the catalog's, with what one wants to know first, or a folder. */
import { totalmem } from "node:os";
import * as vscode from "vscode";
import { complaint, diffill } from "./cli";
import { SECTION } from "./ids";
import { write } from "./pause";
import type { Done } from "./processes";
import { entry, question, readModels, readStep, shownStep, type Model } from "./pure/models";
import type { Server } from "./server";

interface Item extends vscode.QuickPickItem {
  model?: Model;
}

/** Let the user choose; `instructed`: among those that follow instructions. */
export async function selectModel(context: vscode.ExtensionContext, server: Server, instructed = false): Promise<void> {
  const done = await diffill(context, server, ["models", "list", "--json"], "Listing models");
  if (done.code !== 0) {
    throw new Error(`The models cannot be listed: ${complaint(done)}`);
  }
  const current = vscode.workspace.getConfiguration(SECTION).get<string>("model", "embedded");
  const all = readModels(done.output);
  const models = instructed ? all.filter(({ instructions }) => instructions) : all;
  const items: Item[] = models.map((model) => ({ ...entry(model, current, totalmem()), model }));
  if (!instructed && !models.some(({ name }) => name === current)) {
    items.unshift({ label: `$(check) ${current}`, description: "in use", detail: "a folder on this machine" });
  }
  items.push({ label: "$(folder-opened) Another folder…", detail: "config.json, tokenizer.json and model.onnx or safetensors" });
  const title = `Diffill: select a model${instructed ? " that follows instructions" : ""}`;
  const options = { title, placeHolder: current, matchOnDetail: true };
  const picked = await vscode.window.showQuickPick(items, options);
  if (!picked || picked.description?.startsWith("in use")) {
    return;
  }
  if (!picked.model) {
    await chooseFolder(context, server);
  } else if (picked.model.here) {
    await use(picked.model.name);
  } else {
    await download(context, server, picked.model);
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

/** Fetch a model: its licence accepted once, the download shown and to be stopped; then it is used. */
async function download(context: vscode.ExtensionContext, server: Server, model: Model): Promise<void> {
  if (!(await agreed(model))) {
    return;
  }
  const words = ["models", "pull", model.name, "--accept-license", "--json"];
  let percent = 0;
  let done: Done;
  try {
    done = await diffill(context, server, words, `Diffill: downloading ${model.title}`, (line, bar) => {
      const step = readStep(line);
      if (step) {
        const shown = shownStep(step, percent);
        percent = shown.percent;
        bar.report(shown);
      }
    });
  } catch (error) {
    if (!(error instanceof vscode.CancellationError)) {
      throw error;
    }
    const text = `The download of ${model.title} was stopped. Selecting the model again goes on where it stopped.`;
    void vscode.window.showInformationMessage(text);
    return;
  }
  if (done.code !== 0) {
    throw new Error(`${model.title} was not downloaded: ${complaint(done)}`);
  }
  await use(model.name);
}

/** Whether the user wants it, under its licence. */
async function agreed(model: Model): Promise<boolean> {
  const { message, detail } = question(model);
  const yes = model.accepted ? "Download" : "Accept and Download";
  const read = "Read the Licence";
  for (;;) {
    const buttons = model.licenceUrl === undefined ? [yes] : [yes, read];
    const picked = await vscode.window.showInformationMessage(message, { modal: true, detail }, ...buttons);
    if (picked !== read) {
      return picked === yes;
    }
    await vscode.env.openExternal(vscode.Uri.parse(model.licenceUrl ?? ""));
  }
}

/** Writing code anew by an instruction: the box that asks for it, and what is said where the model follows none. */
import * as vscode from "vscode";
import { COMMAND, MAY_INSTRUCT, PREVIEW_SCHEME } from "./ids";
import type { Preview } from "./preview";
import { asLabel, matching, readKept, remembered } from "./pure/instructions";
import { isTask, type Task } from "./pure/proposal";
import { messageOf } from "./pure/values";
import { Declined, type Server } from "./server";
import { selectedTask, type Register } from "./regenerate";

const KEPT = "instructions";
const CHOOSE = "Select Model…";
const NO_INSTRUCTIONS = "no_instructions";
export const INSTRUCTED = "instructed"; // the argument of selectModel that lists only those that follow instructions

interface Item extends vscode.QuickPickItem {
  instruction: string;
}

export function registerInstruct(
  context: vscode.ExtensionContext,
  register: Register,
  server: Server,
  preview: Preview,
): void {
  const ask = (title: string, value: string, check?: Promise<unknown>): Promise<string | undefined> =>
    askForInstruction(context.workspaceState, title, value, check);

  const change = async (): Promise<void> => {
    const before = preview.instruction;
    const instruction = before === undefined ? undefined : await ask("Change the instruction", before);
    if (instruction !== undefined) {
      await preview.instruct(instruction);
    }
  };
  register("preview.changeInstruction", change);
  register("instruct", async (given) => {
    const document = vscode.window.activeTextEditor?.document;
    if (document?.uri.scheme === PREVIEW_SCHEME && preview.instruction !== undefined) {
      await change(); // of the preview that the user stands in
      return;
    }
    const task: Task = isTask(given) ? given : selectedTask(server);
    if (!document) {
      throw new Error("The file of this action is no longer open.");
    }
    const check = server.ask("diffill/instructions", { textDocument: { uri: task.uri } });
    if (typeof server.status?.instructions === "boolean") {
      await check; // known, so answered at once: nobody shall type an instruction that is refused
    }
    const instruction = await ask("Rewrite by instruction", "", check);
    if (instruction !== undefined) {
      await preview.show(document, { ...task, strength: 1, instruction });
    }
  });

  const tell = (): void => {
    const may = server.phase === "running" && server.status?.instructions !== false;
    void vscode.commands.executeCommand("setContext", MAY_INSTRUCT, may);
  };
  tell();
  context.subscriptions.push(server.onDidChange(tell));
}

/** Say what went wrong; where another model would do it, offer to choose one. */
export async function complain(error: unknown, server: Server): Promise<void> {
  const text = `Diffill: ${messageOf(error)}`;
  const helps = error instanceof Declined && error.reason === NO_INSTRUCTIONS && !server.status?.server;
  if ((await vscode.window.showWarningMessage(text, ...(helps ? [CHOOSE] : []))) === CHOOSE) {
    await vscode.commands.executeCommand(`${COMMAND}selectModel`, INSTRUCTED);
  }
}

/**
 * Ask what to do, and offer what was asked for before; undefined where the user leaves. If `check` fails meanwhile,
 * the box closes and its error is thrown.
 */
function askForInstruction(
  memory: vscode.Memento,
  title: string,
  value: string,
  check?: Promise<unknown>,
): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const box = vscode.window.createQuickPick<Item>();
    const forget: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon("trash"), tooltip: "Forget this instruction" };
    const offer = (): void => {
      const typed = box.value.trim();
      const first = typed === "" ? [] : [{ instruction: typed, label: asLabel(typed), alwaysShow: true }];
      const earlier = matching(readKept(memory.get(KEPT)), box.value).map((instruction) => ({
        instruction,
        label: asLabel(instruction),
        description: "asked before",
        alwaysShow: true, // which of them match is our matter
        buttons: [forget],
      }));
      box.items = [...first, ...earlier];
      box.activeItems = box.items.slice(0, 1);
    };
    box.title = title;
    box.placeholder = "What is to be done, for example: add type hints";
    box.ignoreFocusOut = true; // who looks something up shall not lose what was typed
    box.value = value;
    offer();
    box.onDidChangeValue(offer);
    box.onDidTriggerItemButton(async ({ item }) => {
      const kept = readKept(memory.get(KEPT)).filter((one) => one !== item.instruction);
      await memory.update(KEPT, kept);
      offer();
    });
    box.onDidAccept(async () => {
      const instruction = box.selectedItems[0]?.instruction ?? box.value.trim();
      if (instruction !== "") {
        resolve(instruction);
        box.hide();
        await memory.update(KEPT, remembered(readKept(memory.get(KEPT)), instruction));
      }
    });
    box.onDidHide(() => {
      resolve(undefined); // unless it was answered before
      box.dispose();
    });
    box.busy = check !== undefined;
    check?.then(
      () => {
        box.busy = false;
      },
      (error: unknown) => {
        reject(error instanceof Error ? error : new Error(messageOf(error)));
        box.hide();
      },
    );
    box.show();
  });
}

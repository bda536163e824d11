/** Wiring: what there is, and who knows whom. */
import * as vscode from "vscode";
import { ConfidenceView } from "./confidence";
import { copyReport } from "./doctor";
import { askWhereTyped } from "./early";
import { Holes, registerHoles } from "./holes";
import { COMMAND } from "./ids";
import { complain, INSTRUCTED, registerInstruct } from "./instruct";
import { makeLog } from "./log";
import { showMenu } from "./menu";
import { makeMiddleware, RUN_TASK } from "./middleware";
import { selectModel } from "./models";
import { PausedFiles, registerPause } from "./pause";
import { Preview } from "./preview";
import { FILL_HOLES, isTask } from "./pure/proposal";
import { NEEDS_RESTART } from "./pure/settings";
import { messageOf } from "./pure/values";
import { registerRegenerate, runTask } from "./regenerate";
import { connectToServer, follow, KEPT, useThisMachine } from "./remote";
import { Server } from "./server";
import { showStatus } from "./status";
import { openSample, openWalkthrough } from "./walkthrough";

let server: Server | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const log = makeLog(context);
  const running = (server = new Server(context, log));
  const paused = new PausedFiles(context, running);
  const confidence = new ConfidenceView();
  const preview = new Preview(running, confidence);
  const holes = new Holes(running, confidence);
  running.middleware = makeMiddleware(running, confidence);
  const register = (name: string, run: (...args: unknown[]) => Promise<void>): void => {
    const guarded = async (...args: unknown[]): Promise<void> => {
      try {
        await run(...args);
      } catch (error) {
        if (!(error instanceof vscode.CancellationError)) {
          void complain(error, running);
        }
      }
    };
    context.subscriptions.push(vscode.commands.registerCommand(COMMAND + name, guarded));
  };
  context.subscriptions.push(running, paused, confidence, preview, holes);

  showStatus(context, running, paused);
  registerPause(register, paused);
  registerRegenerate(register, running, preview);
  registerInstruct(context, register, running, preview);
  registerHoles(register, holes);
  register(RUN_TASK.slice(COMMAND.length), async (task) => {
    const document = vscode.window.activeTextEditor?.document;
    if (document && isTask(task) && task.command === FILL_HOLES) {
      await holes.fill(document, task);
    } else {
      await runTask(preview, task);
    }
  });
  register("selectModel", (which) => selectModel(context, running, which === INSTRUCTED));
  const simple: Record<string, () => Promise<void> | void> = {
    toggleConfidence: () => {
      confidence.toggle();
    },
    connect: () => connectToServer(context, running),
    disconnect: () => useThisMachine(context, running),
    doctor: () => copyReport(context, running),
    install: () => running.installByHand(),
    menu: () => showMenu(running, paused),
    openSample: () => openSample(context),
    openWalkthrough: () => openWalkthrough(context),
    restart: () => running.restartByHand(),
    showLog: () => {
      log.own.show();
    },
  };
  for (const [name, run] of Object.entries(simple)) {
    register(name, async () => {
      await run();
    });
  }

  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (NEEDS_RESTART.some((name) => change.affectsConfiguration(name))) {
        void running.restartByHand();
      }
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(() => void running.restartByHand()),
  );
  context.subscriptions.push(
    context.secrets.onDidChange(({ key }) => {
      if (key === KEPT) {
        follow(context, running).catch((error: unknown) => {
          log.own.warn(messageOf(error));
        });
      }
    }),
  );
  const first = running.onDidListen(() => {
    first.dispose();
    void askWhereTyped();
  });
  context.subscriptions.push(first);
  void running.restart();
}

export async function deactivate(): Promise<void> {
  await server?.stop();
}

/** The language server's life: found, started, restarted, and what is asked of it. */
import * as vscode from "vscode";
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  ProgressType,
  ResponseError,
  RevealOutputChannelOn,
  State,
  type LanguageClientOptions,
  type Middleware,
} from "vscode-languageclient/node";
import { COMMAND, RUNNING, SECTION } from "./ids";
import { install } from "./install";
import type { Log } from "./log";
import { Crashes } from "./pure/crashes";
import type { Remote } from "./pure/remote";
import { Coalesced } from "./pure/restart";
import { command } from "./pure/settings";
import { messageOf } from "./pure/values";
import type { Phase, ServerStatus } from "./pure/wording";
import { findPython } from "./python";
import { chosenRemote } from "./remote";

const STOP_MS = 3000;
const SETTLE_MS = 500; // until the end of a process is known

/** Something that the server declined, with its sentence and, where it has one, the reason of the closed list. */
export class Declined extends Error {
  constructor(
    message: string,
    readonly reason?: string,
  ) {
    super(message);
  }
}

/** A client that logs what goes wrong and leaves it to us what the user is told. */
class QuietClient extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }
}

export class Server implements vscode.Disposable {
  phase: Phase = "stopped";
  problem: string | undefined;
  status: ServerStatus | undefined;
  python: string | undefined;
  remote: Remote | undefined; // asked instead of this machine's model
  middleware: Middleware = {};

  private client: LanguageClient | undefined;
  private readonly crashes = new Crashes();
  private readonly restarts = new Coalesced(() => this.startAnew());
  private readonly changed = new vscode.EventEmitter<void>();
  private readonly started = new vscode.EventEmitter<void>();
  private readonly listening = new vscode.EventEmitter<void>();
  private leaving = false;
  private deaths = 0; // of the server's process, ever

  /** Told whenever phase, problem or status changed. */
  readonly onDidChange = this.changed.event;
  /** Told whenever a server began to run, also after a crash. */
  readonly onDidStart = this.started.event;
  /** Told whenever a server can be asked for suggestions. */
  readonly onDidListen = this.listening.event;

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly log: Log,
  ) {}

  /** Start the server, or stop it and start it again; calls that come together make one restart. */
  restart(): Promise<void> {
    return this.restarts.run();
  }

  /** The same by the user's hand: earlier crashes no longer count. */
  restartByHand(): Promise<void> {
    this.crashes.forget();
    return this.restart();
  }

  async stop(): Promise<void> {
    this.leaving = true;
    await this.end();
    this.phase = "stopped";
  }

  dispose(): void {
    this.changed.dispose();
    this.started.dispose();
    this.listening.dispose();
  }

  /** Send a request; `Declined` with the server's sentence where it says no. */
  async ask<T>(method: string, params: unknown, token?: vscode.CancellationToken): Promise<T> {
    if (this.client === undefined || this.phase !== "running") {
      throw new Declined(this.problem ?? "The language server does not run");
    }
    try {
      const { client } = this; // a token that is undefined would be taken for a second parameter
      return await (token ? client.sendRequest<T>(method, params, token) : client.sendRequest<T>(method, params));
    } catch (error) {
      if (token?.isCancellationRequested) {
        throw new vscode.CancellationError();
      }
      const data = error instanceof ResponseError ? (error.data as { reason?: unknown } | undefined) : undefined;
      throw new Declined(messageOf(error), typeof data?.reason === "string" ? data.reason : undefined);
    }
  }

  /** Send a notification, if anybody listens. */
  tell(method: string, params: unknown): void {
    if (this.phase === "running") {
      void this.client?.sendNotification(method, params);
    }
  }

  /** Take what is told under a token of ours until it is disposed. */
  listen(token: string, take: (value: unknown) => void): vscode.Disposable {
    return this.client?.onProgress(new ProgressType<unknown>(), token, take) ?? new vscode.Disposable(() => undefined);
  }

  /** The document's identifier as the server knows it. */
  documentId(document: vscode.TextDocument): { uri: string; version: number } {
    return { uri: this.uri(document.uri), version: document.version };
  }

  uri(uri: vscode.Uri): string {
    return this.client?.code2ProtocolConverter.asUri(uri) ?? uri.toString();
  }

  get converter(): LanguageClient["protocol2CodeConverter"] | undefined {
    return this.client?.protocol2CodeConverter;
  }

  private async startAnew(): Promise<void> {
    await this.end();
    if (this.leaving) {
      return;
    }
    this.change("starting");
    const words = await this.command();
    if (words === undefined) {
      return;
    }
    const [program, ...args] = words;
    this.remote = await chosenRemote(this.context);
    const client = this.makeClient(program ?? "", args);
    this.client = client;
    const before = this.deaths;
    try {
      await client.start();
      this.listening.fire();
    } catch (error) {
      // A process that ran and died is a crash, and counted as one; only what never ran is told here.
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
      if (this.phase === "starting" && this.deaths === before && client === this.client) {
        this.fail(`The language server did not start: ${messageOf(error)}`);
      }
    }
  }

  /** The command line of the server; undefined where there is none, which the user was told. */
  private async command(): Promise<string[] | undefined> {
    const given = command(vscode.workspace.getConfiguration(SECTION).get("server"));
    const choice = await findPython(this.context, this.log);
    this.python = choice.kind === "use" ? choice.candidate.path : undefined;
    if (given !== undefined) {
      return given;
    }
    if (choice.kind === "use") {
      return [choice.candidate.path, "-m", "model_runtime", "lsp"];
    }
    if (choice.kind === "none") {
      this.fail(choice.sentence);
      return undefined;
    }
    this.change("missing", "Diffill is not installed in any Python that was found");
    void this.offerInstall(choice.base.path);
    return undefined;
  }

  /** Ask whether to install, and start once it is done. */
  async offerInstall(base: string): Promise<void> {
    const go = "Install";
    const text =
      "Diffill's Python side is not installed. Install it into an environment of its own? Your Pythons stay as they are.";
    if ((await vscode.window.showInformationMessage(text, go, "Not Now")) === go) {
      await this.installWith(base);
    }
  }

  /** Install because the user said so, with whatever Python can make an environment. */
  async installByHand(): Promise<void> {
    const choice = await findPython(this.context, this.log, true);
    if (choice.kind !== "install") {
      throw new Error(choice.kind === "none" ? choice.sentence : "There is no Python to install with.");
    }
    await this.installWith(choice.base.path);
  }

  /** Install with a Python, and start. */
  async installWith(base: string): Promise<void> {
    this.change("installing");
    try {
      if (await install(this.context, this.log, base)) {
        await this.restart();
      } else {
        this.change("missing", "The installation was cancelled");
      }
    } catch (error) {
      this.fail(messageOf(error));
    }
  }

  private makeClient(program: string, args: string[]): LanguageClient {
    const options: LanguageClientOptions = {
      documentSelector: [{ scheme: "file" }, { scheme: "untitled" }],
      outputChannel: this.log.server,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      initializationOptions: {
        trusted: vscode.workspace.isTrusted,
        instructionCommand: `${COMMAND}instruct`,
        ...(this.remote && { server: this.remote }),
      },
      middleware: this.middleware,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => this.closed(),
      },
      initializationFailedHandler: () => false,
    };
    const cwd = this.context.extensionPath; // no folder of the user's: Python would import from there
    const client = new QuietClient(
      "diffill-client", // no section of settings: tracing, which would log source text, cannot be turned on
      "Diffill",
      { command: program, args, options: { cwd } },
      options,
    );
    client.onDidChangeState(({ newState }) => {
      if (client !== this.client || this.leaving) {
        return;
      }
      if (newState === State.Running) {
        this.status = undefined;
        this.change("running");
        this.started.fire();
        void this.refresh(client);
      } else if (newState === State.Starting) {
        this.change("starting");
      }
    });
    client.onNotification("diffill/didChangeStatus", (status: ServerStatus) => {
      this.status = status;
      this.changed.fire();
    });
    return client;
  }

  private async refresh(client: LanguageClient): Promise<void> {
    try {
      this.status = await client.sendRequest<ServerStatus>("diffill/status", {});
      this.changed.fire();
    } catch {
      // it will tell its status when that changes
    }
  }

  /**
   * The connection broke: start again, unless that happened too often. The client's own restarts are not used: they
   * tell the user of every one that fails, and a client that is only stopped starts again as soon as it is to send something.
   */
  private closed(): { action: CloseAction; handled: boolean } {
    this.deaths += 1;
    if (!this.leaving && this.crashes.mayRestart(Date.now())) {
      this.log.own.warn("the language server ended and is started again");
      void this.restart();
    } else if (!this.leaving) {
      this.fail("The language server ended four times in three minutes and is not started again.");
      setImmediate(() => void this.end());
    }
    return { action: CloseAction.DoNotRestart, handled: true };
  }

  /** Nothing runs, and the user is told why, once. */
  private fail(problem: string): void {
    this.log.own.error(problem);
    this.change("failed", problem);
    const [show, again, settings] = ["Show Log", "Restart", "Open Settings"];
    const choices = problem.includes("diffill.python") ? [settings, again] : [show, again];
    void vscode.window.showErrorMessage(`Diffill: ${problem}`, ...choices).then((choice) => {
      if (choice === show) {
        this.log.own.show();
      } else if (choice === again) {
        void this.restartByHand();
      } else if (choice === settings) {
        void vscode.commands.executeCommand("workbench.action.openSettings", "diffill.python");
      }
    });
  }

  private async end(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    this.status = undefined;
    if (client !== undefined) {
      try {
        await client.dispose(STOP_MS);
      } catch {
        // it did not run, or did not answer; its process ends with the connection
      }
    }
  }

  private change(phase: Phase, problem?: string): void {
    this.phase = phase;
    this.problem = problem;
    void vscode.commands.executeCommand("setContext", RUNNING, phase === "running");
    this.changed.fire();
  }
}

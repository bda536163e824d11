/** The preview of a rewrite: VS Code's diff editor, with the file on the left and the proposal on the right. */
import * as vscode from "vscode";
import type { ConfidenceView } from "./confidence";
import { PREVIEW_INSTRUCTED, PREVIEW_READY, PREVIEW_SCHEME, PREVIEW_VISIBLE } from "./ids";
import { placeOf, propose, toRange } from "./propose";
import { percent } from "./pure/confidence";
import { compose, countLines, showHole, showNothing, type Shown } from "./pure/frame";
import { doing, doubts, nextStrength, type Proposal, type Task, type Told } from "./pure/proposal";
import { latency } from "./pure/wording";
import type { Server } from "./server";

interface Open {
  document: vscode.TextDocument;
  uri: vscode.Uri;
  base: string;
  version: number;
  task: Task & { strength: number; seed: number };
  heights: Map<string, number>; // by the start of a hole: lines never get fewer while the model works
  target: vscode.Range | undefined;
  proposal: Proposal | undefined;
  shown: Shown;
  note: string;
  cancel: vscode.CancellationTokenSource;
}

export class Preview implements vscode.Disposable, vscode.TextDocumentContentProvider {
  private open: Open | undefined;
  private count = 0;
  private readonly changed = new vscode.EventEmitter<vscode.Uri>();
  readonly onDidChange = this.changed.event;
  private readonly grey = vscode.window.createTextEditorDecorationType({
    color: new vscode.ThemeColor("diffill.unsettled"),
    backgroundColor: new vscode.ThemeColor("diffill.unsettled"),
  });
  private readonly note = vscode.window.createTextEditorDecorationType({
    after: { margin: "0 0 0 2em", color: new vscode.ThemeColor("editorCodeLens.foreground"), fontStyle: "italic" },
  });
  private readonly parts: { dispose(): unknown }[];

  constructor(
    private readonly server: Server,
    private readonly confidence: ConfidenceView,
  ) {
    const closed = (change: vscode.TabChangeEvent): void => {
      if (this.open && change.closed.some((tab) => this.isTab(tab))) {
        this.forget();
      }
    };
    this.parts = [
      this.changed,
      this.grey,
      this.note,
      vscode.workspace.registerTextDocumentContentProvider(PREVIEW_SCHEME, this),
      vscode.window.tabGroups.onDidChangeTabs(closed),
      vscode.workspace.onDidChangeTextDocument(({ document }) => {
        if (document.uri.scheme === PREVIEW_SCHEME) {
          this.decorate();
        }
      }),
      vscode.window.onDidChangeVisibleTextEditors(() => {
        this.decorate();
      }),
    ];
  }

  dispose(): void {
    this.forget();
    this.parts.forEach((part) => part.dispose());
  }

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.open?.uri.toString() === uri.toString() ? this.open.shown.text : "";
  }

  /** Show what a task would do. The preview before it, if there is one, is discarded. */
  async show(document: vscode.TextDocument, task: Task): Promise<void> {
    await this.discard();
    const uri = vscode.Uri.from({ scheme: PREVIEW_SCHEME, path: document.uri.path, query: String((this.count += 1)) });
    const base = document.getText();
    const open: Open = {
      document,
      uri,
      base,
      version: document.version,
      task: { seed: 0, strength: 1, ...task },
      heights: new Map(),
      target: undefined,
      proposal: undefined,
      shown: { text: base, grey: [] },
      note: "",
      cancel: new vscode.CancellationTokenSource(),
    };
    this.open = open;
    await this.work(open);
  }

  /** Make the change in the file: one edit, which one undo takes back. */
  async accept(): Promise<void> {
    const open = this.open;
    const proposal = open?.proposal;
    if (!open || !proposal) {
      return;
    }
    if (open.document.isClosed || open.document.version !== open.version) {
      throw new Error("The file has changed since the preview was made; try again.");
    }
    const edit = new vscode.WorkspaceEdit();
    for (const one of proposal.edits) {
      edit.replace(open.document.uri, toRange(one.range), one.newText);
    }
    const places = proposal.edits.map((one) => placeOf(open.document, one));
    if (!(await vscode.workspace.applyEdit(edit))) {
      throw new Error("The editor did not make the change.");
    }
    const { document, target } = open;
    await this.discard();
    this.confidence.remember(document, places);
    const editor = await vscode.window.showTextDocument(document, { preview: false });
    if (target) {
      editor.selection = new vscode.Selection(target.start, target.start);
      editor.revealRange(target, vscode.TextEditorRevealType.InCenterIfOutsideViewport);
    }
  }

  /** The same with another seed: another draw of the model. */
  async again(): Promise<void> {
    if (this.open) {
      this.open.task.seed += 1;
      await this.work(this.open);
    }
  }

  /** The instruction that is being followed, if one is. */
  get instruction(): string | undefined {
    return this.open?.task.instruction;
  }

  /** The same place with another instruction. */
  async instruct(instruction: string): Promise<void> {
    if (this.open) {
      this.open.task.instruction = instruction;
      this.open.task.seed = 0;
      await this.work(this.open);
    }
  }

  /** The same with the next strength up or down. */
  async change(by: 1 | -1): Promise<void> {
    if (!this.open) {
      return;
    }
    if (this.instruction !== undefined) {
      void vscode.window.setStatusBarMessage("Diffill: an instruction writes all of it anew", 5000);
      return;
    }
    const strength = nextStrength(this.open.task.strength, by);
    if (strength === undefined) {
      const end = by > 0 ? "strongest" : "lightest";
      void vscode.window.setStatusBarMessage(`Diffill: this is the ${end} rewrite`, 5000);
      return;
    }
    this.open.task.strength = strength;
    await this.work(this.open);
  }

  /** Close the preview; the file stays as it is, and the model stops. */
  async discard(): Promise<void> {
    const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs).filter((tab) => this.isTab(tab));
    this.forget();
    if (tabs.length > 0) {
      await vscode.window.tabGroups.close(tabs);
    }
  }

  private isTab(tab: vscode.Tab): boolean {
    return tab.input instanceof vscode.TabInputTextDiff && tab.input.modified.toString() === this.open?.uri.toString();
  }

  private forget(): void {
    this.open?.cancel.cancel();
    this.open = undefined;
    this.setContext();
  }

  private async work(open: Open): Promise<void> {
    open.cancel.cancel();
    const cancel = (open.cancel = new vscode.CancellationTokenSource());
    if (open.document.version !== open.version) {
      open.version = open.document.version;
      open.base = open.document.getText();
    }
    open.proposal = undefined;
    open.heights.clear();
    const { name, title } = doing(open.task);
    const task: Task = { ...open.task, version: open.version };
    this.setContext();
    let opened: Thenable<unknown> | undefined;
    try {
      const proposal = await propose(this.server, task, title, cancel.token, (told) => {
        if (open === this.open) {
          this.draw(open, told);
          opened ??= this.reveal(open);
        }
      });
      opened ??= this.reveal(open);
      await opened;
      if (open === this.open && !cancel.token.isCancellationRequested) {
        this.finish(open, proposal, name);
      }
    } catch (error) {
      await opened;
      if (open === this.open && cancel === open.cancel) {
        await this.discard();
      }
      throw error;
    }
  }

  /** Show a step: what is settled, and grey blocks for the rest. */
  private draw(open: Open, told: Told): void {
    const { document, base } = open;
    const lineEnd = document.eol === vscode.EndOfLine.CRLF ? "\r\n" : "\n";
    if (told.kind === "begin") {
      open.target = told.ranges[0] && toRange(told.ranges[0]);
    }
    const holes = told.kind === "begin" ? told.ranges.map((range) => ({ range, text: undefined })) : told.holes;
    const parts = holes.map((hole) => {
      const range = toRange(hole.range);
      const start = document.offsetAt(range.start);
      const end = document.offsetAt(range.end);
      const replaced = base.slice(start, end);
      if (hole.text === undefined) {
        return { start, end, shown: showNothing(replaced, lineEnd) };
      }
      const lines = Math.max(open.heights.get(String(start)) ?? 0, countLines(replaced), countLines(hole.text));
      open.heights.set(String(start), lines);
      return { start, end, shown: showHole(hole, lines, lineEnd) };
    });
    open.shown = compose(base, parts);
    open.note = told.kind === "frame" ? `${doing(open.task).name}, step ${told.step}` : "";
    this.changed.fire(open.uri);
  }

  private finish(open: Open, proposal: Proposal, name: string): void {
    open.proposal = proposal;
    const parts = proposal.edits.map((edit) => {
      const range = toRange(edit.range);
      const [start, end] = [open.document.offsetAt(range.start), open.document.offsetAt(range.end)];
      return { start, end, shown: { text: edit.newText, grey: [] } };
    });
    open.target = proposal.ranges[0] && toRange(proposal.ranges[0]);
    open.shown = compose(open.base, parts);
    const facts = [
      name,
      ...(open.task.seed > 0 ? [`draw ${open.task.seed + 1}`] : []),
      `${percent(proposal.edits[0]?.confidence ?? 0)} sure`,
      `${proposal.steps} steps, ${latency(proposal.timingMs.total)}`,
    ];
    const warnings = doubts(proposal, open.task.instruction !== undefined).map((words) => `⚠ ${words}`);
    open.note = [...warnings, ...facts].join(" · ");
    this.changed.fire(open.uri);
    this.decorate();
    this.setContext();
    void vscode.window.setStatusBarMessage(`Diffill preview: ${open.note}. Ctrl+Enter accepts, Escape discards.`, 15000);
  }

  private reveal(open: Open): Thenable<unknown> {
    const name = open.document.uri.path.split("/").at(-1) ?? "";
    const selection = open.target && new vscode.Range(open.target.start, open.target.start);
    return vscode.commands.executeCommand(
      "vscode.diff",
      open.document.uri,
      open.uri,
      `${name}: proposed by Diffill`,
      selection ? { preview: true, selection } : { preview: true },
    );
  }

  private decorate(): void {
    const open = this.open;
    if (!open) {
      return;
    }
    for (const editor of vscode.window.visibleTextEditors) {
      const { document } = editor;
      if (document.uri.toString() !== open.uri.toString() || document.getText() !== open.shown.text) {
        continue; // another text than the one the ranges are about: its change is still to come
      }
      editor.setDecorations(
        this.grey,
        open.shown.grey.map(({ start, end }) => new vscode.Range(document.positionAt(start), document.positionAt(end))),
      );
      const line = open.target?.start.line ?? 0;
      const end = document.lineAt(Math.min(line, document.lineCount - 1)).range.end;
      const after = { contentText: open.note };
      editor.setDecorations(this.note, open.note ? [{ range: new vscode.Range(end, end), renderOptions: { after } }] : []);
    }
  }

  private setContext(): void {
    const set = (name: string, value: boolean): void => {
      void vscode.commands.executeCommand("setContext", name, value);
    };
    set(PREVIEW_VISIBLE, this.open !== undefined);
    set(PREVIEW_READY, this.open?.proposal !== undefined);
    set(PREVIEW_INSTRUCTED, this.instruction !== undefined);
  }
}

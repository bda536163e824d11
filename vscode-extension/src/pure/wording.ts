/** What the status says, in words: no state is told by a colour or an icon alone. */
import { hostOf } from "./remote";

export interface Silence {
  reason: string;
  message: string;
  uri?: string | null;
}

export type ServerState = "idle" | "loading" | "working" | "paused" | "down";

export interface ServerStatus {
  state: ServerState;
  model: string | null;
  /** Whether the model follows instructions; null before that is known. */
  instructions?: boolean | null;
  /** The address that is asked instead of this machine's model. */
  server?: string | null;
  lastLatencyMs: number | null;
  lastSilence: Silence | null;
}

export interface Counters {
  offered: number;
  shown: number;
  accepted: number;
}

export type Phase = "starting" | "installing" | "running" | "missing" | "failed" | "stopped";

export interface Situation {
  phase: Phase;
  problem?: string | undefined;
  server?: ServerStatus | undefined;
  trusted: boolean;
  uri?: string | undefined; // of the active file
  pausedHere?: "language" | "file" | undefined;
}

export interface View {
  state: "ready" | "loading" | "paused" | "error" | "starting" | "installing" | "not installed" | "off here" | "stopped";
  icon: string;
  severity: "information" | "warning" | "error";
  busy: boolean;
  detail: string;
  lines: string[];
}

// Reasons that belong to typing: they come and go with every key and are worth no line of their own in the bar.
const PASSING = new Set(["mid_word", "mid_line", "unchanged", "superseded"]);
const OFF_HERE = new Set(["excluded", "too_large", "language_off"]);

/** The state of everything as the status bar and the language status show it. */
export function view(now: Situation): View {
  const base = stateOf(now);
  const lines = [base.detail];
  const { server } = now;
  if (now.phase === "running" && server) {
    lines.push(`Model: ${server.model ?? "none yet"}`);
    if (server.server) {
      lines.push(`Server: ${hostOf(server.server)}`);
    }
    if (server.lastLatencyMs !== null) {
      lines.push(`Last answer: ${latency(server.lastLatencyMs)}`);
    }
    const silence = silenceHere(now);
    if (silence) {
      lines.push(`Last time nothing was suggested: ${silence.message}`);
    }
  }
  return { ...base, lines };
}

function stateOf(now: Situation): Omit<View, "lines"> {
  const { server } = now;
  switch (now.phase) {
    case "starting":
      return make("starting", "loading~spin", "information", "The language server is being started", true);
    case "installing":
      return make("installing", "loading~spin", "information", "Diffill is being installed", true);
    case "missing":
      return make("not installed", "cloud-download", "warning", now.problem ?? "Diffill is not installed");
    case "failed":
      return make("error", "error", "error", now.problem ?? "The language server does not run");
    case "stopped":
      return make("stopped", "circle-slash", "warning", "The language server was stopped");
    case "running":
      break;
  }
  if (!now.trusted) {
    return make("paused", "debug-pause", "warning", "This workspace is not trusted: the model is shown nothing");
  }
  if (server?.state === "paused") {
    return make("paused", "debug-pause", "information", "Paused: nothing is sent to the model");
  }
  if (now.pausedHere) {
    const where = now.pausedHere === "file" ? "this file" : "this language";
    return make("paused", "debug-pause", "information", `Paused for ${where}`);
  }
  if (server?.state === "down") {
    const silence = server.lastSilence;
    const why = silence && ["runtime_down", "no_model"].includes(silence.reason) ? silence.message : undefined;
    return make("error", "error", "error", why ?? (server.server ? "The server does not answer" : "The model process does not answer"));
  }
  if (server?.state === "loading") {
    return make("loading", "loading~spin", "information", "The model is being loaded", true);
  }
  const silence = silenceHere(now);
  if (silence && OFF_HERE.has(silence.reason)) {
    return make("off here", "circle-slash", "information", `Off in this file: ${silence.message}`);
  }
  const where = server?.server ? `Ready: ${hostOf(server.server)} is asked` : "Ready";
  return make("ready", server?.server ? "cloud" : "sparkle", "information", where, server?.state === "working");
}

function make(
  state: View["state"],
  icon: string,
  severity: View["severity"],
  detail: string,
  busy = false,
): Omit<View, "lines"> {
  return { state, icon, severity, busy, detail };
}

/** The last reason for no suggestion, if it is about the active file (or about no file at all). */
export function silenceHere(now: Situation): Silence | undefined {
  const silence = now.server?.lastSilence;
  if (!silence || (silence.uri && silence.uri !== now.uri)) {
    return undefined;
  }
  return silence;
}

/** The line below the state in the language status: why nothing came, or how long the last answer took. */
export function detailOf(now: Situation): string {
  const shown = view(now);
  const silence = silenceHere(now);
  if (now.phase === "running" && shown.state === "ready" && silence && !PASSING.has(silence.reason)) {
    return `${modelAndTime(now.server)}nothing suggested: ${silence.message}`;
  }
  return now.phase === "running" && shown.state === "ready" ? modelAndTime(now.server).replace(/ · $/, "") : shown.detail;
}

function modelAndTime(server: ServerStatus | undefined): string {
  const where = server?.server ? hostOf(server.server) : null;
  const parts = [where, server?.model, server?.lastLatencyMs == null ? null : latency(server.lastLatencyMs)];
  return parts.filter((part) => part != null).map((part) => `${part} · `).join("");
}

/** Milliseconds as a person reads them. */
export function latency(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** How many suggestions were taken, in words; they are counted on this machine and go nowhere. */
export function counted(counters: Counters): string {
  const { shown, accepted } = counters;
  return `${accepted} of ${shown} suggestion${shown === 1 ? "" : "s"} taken (counted here, sent nowhere)`;
}

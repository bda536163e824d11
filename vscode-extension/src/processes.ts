/** Programs that run to their end: their output, cancelled or not. They never run in a folder of the user's. */
import { spawn } from "node:child_process";
import type { CancellationToken } from "vscode";

export interface Done {
  code: number | null;
  output: string;
  errors: string;
  cancelled: boolean;
}

export interface Options {
  cwd: string; // a folder of ours: Python looks for modules where it is started
  timeoutMs?: number;
  token?: CancellationToken;
  onLine?: (line: string) => void;
}

/** Run a program to its end. A program that cannot be started ends with the code null and the reason as `errors`. */
export function run(command: string, args: readonly string[], options: Options): Promise<Done> {
  return new Promise((resolve) => {
    const done: Done = { code: null, output: "", errors: "", cancelled: false };
    const posix = process.platform !== "win32";
    const child = spawn(command, args, {
      cwd: options.cwd,
      stdio: ["ignore", "pipe", "pipe"],
      windowsHide: true,
      detached: posix, // a group of its own: what it started ends with it
    });
    const kill = (): void => {
      try {
        if (posix && child.pid !== undefined) {
          process.kill(-child.pid, "SIGKILL");
        } else {
          child.kill();
        }
      } catch {
        // it is gone
      }
    };
    const cancelling = options.token?.onCancellationRequested(() => {
      done.cancelled = true;
      kill();
    });
    const timer = options.timeoutMs === undefined ? undefined : setTimeout(kill, options.timeoutMs);
    let rest = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      done.output += text;
      const lines = (rest + text).split(/\r?\n|\r/);
      rest = lines.pop() ?? "";
      lines.forEach((line) => options.onLine?.(line));
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      done.errors += text;
    });
    const finish = (code: number | null, problem = ""): void => {
      clearTimeout(timer);
      cancelling?.dispose();
      done.code = code;
      done.errors += problem;
      resolve(done);
    };
    child.on("error", (error) => {
      finish(null, error.message);
    });
    child.on("close", (code) => {
      finish(code);
    });
  });
}

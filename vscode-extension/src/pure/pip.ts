/** What pip is told, and what it says. */

/**
 * The arguments of `python -m pip` that install Diffill: from the wheel that came with the extension where there is
 * one, and with a wheel folder from nowhere else.
 */
export function pipArguments(shipped: string | undefined, wheelFolder: string): string[] {
  const offline = wheelFolder === "" ? [] : ["--no-index", "--find-links", wheelFolder];
  return [
    "install",
    "--disable-pip-version-check",
    "--no-input",
    "--progress-bar",
    "off",
    ...offline,
    shipped ?? "diffill",
  ];
}

/** A line of pip's output as the progress shows it; undefined for what says nothing. */
export function pipProgress(line: string): string | undefined {
  const collecting = /^Collecting ([A-Za-z0-9_.-]+)/.exec(line);
  if (collecting) {
    return `fetching ${collecting[1] ?? ""}`;
  }
  const downloading = /^\s*Downloading (\S+?)(?:-py\S*|-cp\S*)?\.whl\S* \(([^)]+)\)/.exec(line);
  if (downloading) {
    return `downloading ${(downloading[1] ?? "").split("/").at(-1) ?? ""}, ${downloading[2] ?? ""}`;
  }
  const installing = /^Installing collected packages: (.+)/.exec(line);
  if (installing) {
    return `unpacking ${(installing[1] ?? "").split(",").length} packages`;
  }
  return undefined;
}

/** Pip's last complaint as one sentence. */
export function pipProblem(errors: string): string {
  const lines = errors.split(/\r?\n/).map((line) => line.trim());
  const complaint = lines.filter((line) => /^ERROR:/.test(line)).at(-1) ?? lines.filter((line) => line !== "").at(-1);
  return (complaint ?? "no reason was given").replace(/^ERROR:\s*/, "").replace(/[.\s]+$/, "") + ".";
}

/** A server elsewhere: what may be its address, and how it is kept. */
import { asObject } from "./values";

export interface Remote {
  address: string;
  token: string;
  /** A file of certificates to trust instead of the system's. */
  certificates?: string;
}

/** What is wrong with an address that a user types; undefined if nothing is. The server says the same, and more. */
export function complaintAbout(given: string): string | undefined {
  let url: URL;
  try {
    url = new URL(given.trim());
  } catch {
    return "An address like wss://host:port";
  }
  if (url.protocol !== "wss:" && !(url.protocol === "ws:" && isLoopback(url.hostname))) {
    return "The address begins with wss://, for what you write is sent there";
  }
  if (url.hostname === "") {
    return "The address names a host";
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    return "Only wss://host:port: the token is asked for next";
  }
  return undefined;
}

/** What is wrong with a token; undefined if nothing is. */
export function complaintAboutToken(given: string): string | undefined {
  return /^[!-~]{16,256}$/.test(given.trim()) ? undefined : "A token has 16 to 256 characters, without spaces";
}

/** A server as it was kept, or undefined where nothing that can be used was. */
export function readRemote(kept: string | undefined): Remote | undefined {
  let value: unknown;
  try {
    value = JSON.parse(kept ?? "");
  } catch {
    return undefined;
  }
  const { address, token, certificates } = asObject(value) ?? {};
  if (typeof address !== "string" || typeof token !== "string" || complaintAbout(address) || complaintAboutToken(token)) {
    return undefined;
  }
  return typeof certificates === "string" ? { address, token, certificates } : { address, token };
}

/** Where an address leads, as a person calls it. */
export function hostOf(address: string): string {
  try {
    return new URL(address).host;
  } catch {
    return address;
  }
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

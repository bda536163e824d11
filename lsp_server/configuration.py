"""Where settings come from: the start options, then what the client sends or is asked for, as it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

SECTION = "diffill"
OWN_OPTIONS = ("trusted", "server", "instructionCommand")  # no settings


def from_options(options: Any) -> tuple[Any, bool]:
    """Settings and trust from `initializationOptions`: {settings: {…}, trusted: false} or the settings themselves.

    What they say of a server is for `elsewhere.py`.
    """
    given = to_plain(options)
    if not isinstance(given, dict):
        return given, True
    settings = given.get("settings", {name: one for name, one in given.items() if name not in OWN_OPTIONS})
    return settings, given.get("trusted") is not False


def instruction_command(options: Any) -> str | None:
    """The client's own command that asks its user what to do, from `initializationOptions.instructionCommand`."""
    given = to_plain(options)
    named = given.get("instructionCommand") if isinstance(given, dict) else None
    return named if isinstance(named, str) and named else None


def from_notification(params: types.DidChangeConfigurationParams) -> Any:
    """Settings that a client pushes, with or without our section around them."""
    given = to_plain(params.settings)
    return given.get(SECTION, given) if isinstance(given, dict) else given


def can_ask(capabilities: types.ClientCapabilities) -> bool:
    """Whether the client answers workspace/configuration."""
    return bool(capabilities.workspace and capabilities.workspace.configuration)


async def ask(server: LanguageServer, folders: Sequence[str] = ()) -> list[Any]:
    """The client's settings, asked for: the window's, then each folder's; None where it has none."""
    items = [types.ConfigurationItem(section=SECTION)]
    items += [types.ConfigurationItem(scope_uri=folder, section=SECTION) for folder in folders]
    answer = await server.workspace_configuration_async(types.ConfigurationParams(items))
    return [to_plain(one) for one in answer] if answer else [None]


async def watch(server: LanguageServer) -> None:
    """Ask to be told of changed settings, where the client wants to be asked for that."""
    workspace = server.client_capabilities.workspace
    if workspace and (change := workspace.did_change_configuration) and change.dynamic_registration:
        registration = types.Registration(
            "diffill-configuration",
            types.WORKSPACE_DID_CHANGE_CONFIGURATION,
            types.DidChangeConfigurationRegistrationOptions(section=SECTION),
        )
        await server.client_register_capability_async(types.RegistrationParams([registration]))


def to_plain(value: Any) -> Any:
    """JSON values of what pygls made of them: it turns some objects into named tuples."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: to_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(one) for one in value]
    return value

"""Work that takes a while: a progress bar in the editor, with a button that ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from lsprotocol import types
from pygls.progress import Progress

T = TypeVar("T")


async def with_progress(
    bar: Progress, token: types.ProgressToken, title: str, work: Coroutine[Any, Any, T]
) -> T | None:
    """The result of `work`, or None where the user cancelled it from the bar that is shown meanwhile.

    `token` is the client's, or one made with `bar.create_async`. An outer cancel ends the work, too, and is passed on.
    """
    bar.begin(token, types.WorkDoneProgressBegin(title, cancellable=True))
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    stop = bar.tokens[token]
    stop.add_done_callback(lambda _: loop.call_soon_threadsafe(task.cancel))
    try:
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()
    finally:
        task.cancel()  # nothing, if it is done
        bar.end(token, types.WorkDoneProgressEnd())
        bar.tokens.pop(token, None)

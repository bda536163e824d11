"""OpenAI's completions (the older of its interfaces, the one with a suffix) and its list of models."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from model_runtime import __version__
from model_runtime.daemon.callers import Caller
from model_runtime.daemon.compat.fields import within
from model_runtime.daemon.compat.fills import NOTHING, Filling, Receive, Text, Wanted, texts_of
from model_runtime.daemon.compat.llama import model_name, warm
from model_runtime.daemon.compat.markers import Marked, take_apart
from model_runtime.daemon.compat.texts import Ends
from model_runtime.daemon.messages import MAX_ALTERNATIVES, MAX_SEED
from model_runtime.daemon.scheduler import Scheduler

BEGAN = int(time.time())


@dataclass
class StreamOptions:
    """What a streamed answer has besides the text."""

    include_usage: bool = within(False)


@dataclass
class Completions:
    """The body of /v1/completions."""

    prompt: str | list[str] = within(
        "",
        1,
        MAX_ALTERNATIVES,
        "the code before the hole; without a suffix, marked as a known model wants it also both",
    )
    suffix: str | None = within(None, text="the code after the hole")
    max_tokens: int | None = within(None, -1, 2**31 - 1, "default: 128")
    n: int = within(1, 1, MAX_ALTERNATIVES, "so many different texts for each prompt; fewer if there are no more")
    stop: str | list[str] = within([], text="the text ends before the first of these")
    temperature: float = within(0.0, 0, 10)
    top_p: float = within(1.0, 0, 1)
    seed: int | None = within(None, -(2**63), MAX_SEED)
    stream: bool = within(False)
    stream_options: StreamOptions | None = within(None)

    def wanted(self) -> list[Wanted]:
        """What is to be filled: one hole for each prompt."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return [self._one(take_apart(prompt) if not self.suffix else Marked(prompt, self.suffix)) for prompt in prompts]

    def _one(self, marked: Marked) -> Wanted:
        return Wanted(
            before=marked.before,
            after=marked.after,
            related=marked.related,
            path=marked.path,
            max_tokens=self.max_tokens,
            count=self.n,
            ends=Ends([self.stop] if isinstance(self.stop, str) else self.stop),
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
        )


async def complete(body: Completions, caller: Caller, receive: Receive) -> dict[str, Any]:
    """The answer to /v1/completions."""
    texts, seen, model = await all_texts(body, caller, receive)
    choices = [choice(text.content, n, reason_of(text)) for n, text in enumerate(texts)]
    return {**envelope(model), "choices": choices, "usage": usage(texts, seen)}


async def all_texts(body: Completions, caller: Caller, receive: Receive) -> tuple[list[Text], int, str]:
    """The texts for every prompt, the tokens of all prompts, and the name of the model that wrote the texts."""
    wanted = body.wanted()
    if body.max_tokens == 0:
        warm(caller)
        return [NOTHING for _ in wanted], 0, model_name(caller.scheduler)
    results = await Filling(caller, wanted, receive).results()
    texts = [text for one, result in zip(wanted, results, strict=True) for text in texts_of(result, one)]
    return texts, sum(result.prompt_tokens for result in results), results[0].model


async def stream(body: Completions, caller: Caller, receive: Receive) -> AsyncIterator[dict[str, Any]]:
    """The events of a streamed answer: a single text as it settles, several of them one event each."""
    wanted, texts, seen = body.wanted(), [], 0
    head = envelope(model_name(caller.scheduler))
    if len(wanted) == 1 == body.n and body.max_tokens != 0:
        async for piece in Filling(caller, wanted, receive).pieces():
            if isinstance(piece, str):
                yield {**head, "choices": [choice(piece, 0, None)]}
            else:
                texts, seen = texts_of(piece, wanted[0]), piece.prompt_tokens
                yield {**head, "choices": [choice("", 0, reason_of(texts[0]))]}
    else:
        texts, seen, head["model"] = await all_texts(body, caller, receive)
        for n, text in enumerate(texts):
            yield {**head, "choices": [choice(text.content, n, reason_of(text))]}
    if body.stream_options is not None and body.stream_options.include_usage:
        yield {**head, "choices": [], "usage": usage(texts, seen)}


def envelope(model: str) -> dict[str, Any]:
    """What every answer and every event begins with."""
    return {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": f"diffill-{__version__}",
    }


def choice(text: str, index: int, reason: str | None) -> dict[str, Any]:
    """One text, or a piece of one."""
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}


def reason_of(text: Text) -> str:
    """Why a text ended."""
    return "stop" if text.complete else "length"


def usage(texts: list[Text], seen: int) -> dict[str, int]:
    """Tokens of the prompts, as far as the model saw them, and tokens written."""
    written = sum(text.tokens for text in texts)
    return {"prompt_tokens": seen, "completion_tokens": written, "total_tokens": seen + written}


def models(scheduler: Scheduler) -> dict[str, Any]:
    """The answer to /v1/models: the one that this daemon serves, whatever a request names."""
    one = {"id": model_name(scheduler), "object": "model", "created": BEGAN, "owned_by": "diffill"}
    return {"object": "list", "data": [one]}

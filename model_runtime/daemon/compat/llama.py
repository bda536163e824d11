"""The endpoints of llama.cpp's server that editors use: /infill, /completion and /props."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from model_runtime import __version__
from model_runtime.daemon.callers import Caller
from model_runtime.daemon.compat.fields import within
from model_runtime.daemon.compat.fills import NOTHING, Filling, Receive, Text, Wanted, texts_of
from model_runtime.daemon.compat.markers import take_apart
from model_runtime.daemon.compat.texts import Ends
from model_runtime.daemon.messages import MAX_ALTERNATIVES, MAX_SEED
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.protocol import FillResult

MOST_MS = 1e9


@dataclass
class Extra:
    """A piece of another file."""

    text: str
    filename: str | None = None


@dataclass
class Completion:
    """The body of /completion."""

    prompt: str = within("", text="the code before the hole; or prefix and suffix, marked as a known model wants them")
    n_predict: int = within(-1, -2, 2**31 - 1, "at most so many tokens; below 0: 128; 0 only loads the model")
    n_cmpl: int = within(1, 1, MAX_ALTERNATIVES, "so many different texts; more than one are answered as a list")
    n_indent: int = within(0, 0, 10_000, "the text ends before a line that is indented by less")
    t_max_predict_ms: float = within(
        0.0, -MOST_MS, MOST_MS, "answer by then with the best so far; counts from the arrival"
    )
    stop: str | list[str] = within([], text="the text ends before the first of these")
    stream: bool = within(False)
    temperature: float = within(0.0, 0, 10)
    top_k: int = within(0, -(2**31), 2**31 - 1, "0 and below: all")
    top_p: float = within(1.0, 0, 1)
    seed: int = within(-1, -(2**63), MAX_SEED, "below 0: a new one each time, if there is a temperature")
    cache_prompt: bool = within(True, text="false: neither kept answers nor kept context")
    response_fields: list[str] | None = within(None, text="only these fields; a/b is the field b of a, under that name")

    def wanted(self) -> Wanted:
        """What is to be filled."""
        marked = take_apart(self.prompt)
        wanted = self.options(marked.before)
        wanted.after, wanted.related, wanted.path = marked.after, marked.related, marked.path
        return wanted

    def options(self, before: str) -> Wanted:
        """A hole behind a text, with the options of this body."""
        return Wanted(
            before=before,
            max_tokens=self.n_predict,
            count=self.n_cmpl,
            ends=Ends([self.stop] if isinstance(self.stop, str) else self.stop, self.n_indent),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            deadline_ms=self.t_max_predict_ms,
            cache=self.cache_prompt,
        )


@dataclass
class Infill(Completion):
    """The body of /infill."""

    prompt: str = within("", text="what of the hole is written already; it follows input_prefix")
    input_prefix: str = within("", text="the code before the hole")
    input_suffix: str = within("", text="the code after the hole")
    input_extra: list[Extra] = within([], text="pieces of other files")

    def wanted(self) -> Wanted:
        """What is to be filled."""
        wanted = self.options(self.input_prefix + self.prompt)
        wanted.after = self.input_suffix
        wanted.related = [extra.text for extra in self.input_extra if extra.text.strip()]
        return wanted


async def complete(body: Completion, caller: Caller, receive: Receive) -> Any:
    """The answer to /infill and /completion: an object, or a list of them where several texts were asked for."""
    wanted = body.wanted()
    if body.n_predict == 0:
        warm(caller)
        answers = [answer(NOTHING, None, caller.scheduler)]
    else:
        (result,) = await Filling(caller, [wanted], receive).results()
        answers = [answer(text, result, caller.scheduler, n) for n, text in enumerate(texts_of(result, wanted))]
    if body.response_fields is not None:
        answers = [only(body.response_fields, one) for one in answers]
    return answers if body.n_cmpl > 1 else answers[0]


async def stream(body: Completion, caller: Caller, receive: Receive) -> AsyncIterator[dict[str, Any]]:
    """The events of a streamed answer; the last one has the whole answer's figures and no text."""
    wanted = body.wanted()
    if body.n_predict == 0 or body.n_cmpl > 1:
        found = await complete(body, caller, receive)
        for one in found if isinstance(found, list) else [found]:
            yield one
        return
    async for piece in Filling(caller, [wanted], receive).pieces():
        if isinstance(piece, str):
            yield {"index": 0, "content": piece, "tokens": [], "stop": False}
        else:
            last = {**answer(texts_of(piece, wanted)[0], piece, caller.scheduler), "content": ""}
            yield last if body.response_fields is None else only(body.response_fields, last)


def warm(caller: Caller) -> None:
    """Load the model, without waiting: llama.vim announces so that it will ask soon."""
    caller.load().add_done_callback(lambda loading: loading.cancelled() or loading.exception())


def answer(text: Text, result: FillResult | None, scheduler: Scheduler, index: int = 0) -> dict[str, Any]:
    """What llama.cpp's server answers; the prompt's tokens are those that the model saw, kept answers' from then."""
    seen = result.prompt_tokens if result is not None else 0
    kept = result is not None and not any(result.timing_ms.values())
    timing = result.timing_ms if result is not None else {"encode": 0.0, "denoise": 0.0}
    return {
        "index": index,
        "content": text.content,
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": result.model if result is not None else model_name(scheduler),
        "tokens_predicted": text.tokens,
        "tokens_evaluated": seen,
        "has_new_line": "\n" in text.content,
        "truncated": False,
        "stop_type": "word" if text.stopped_by else "eos" if text.complete else "limit",
        "stopping_word": text.stopped_by,
        "tokens_cached": seen if kept else 0,
        "timings": {
            "cache_n": seen if kept else 0,
            **figures("prompt", 0 if kept else seen, timing["encode"]),
            **figures("predicted", text.tokens, timing["denoise"]),
        },
        "confidence": text.confidence,
    }


def figures(name: str, count: int, ms: float) -> dict[str, Any]:
    """A part of `timings`."""
    return {
        f"{name}_n": count,
        f"{name}_ms": float(ms),
        f"{name}_per_token_ms": ms / count if count else 0.0,
        f"{name}_per_second": count / ms * 1000 if ms else 0.0,
    }


def only(names: list[str], whole: dict[str, Any]) -> dict[str, Any]:
    """The fields that a client wants to see; those that there are not are left out."""
    found = {}
    for name in names:
        value: Any = whole
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found


def model_name(scheduler: Scheduler) -> str:
    """The name of the daemon's model, without the folder that it lies in."""
    return scheduler.model.replace("\\", "/").rstrip("/").rpartition("/")[2]


def props(scheduler: Scheduler) -> dict[str, Any]:
    """The answer to /props."""
    defaults = Completion()
    return {
        "default_generation_settings": {
            "params": {
                "n_predict": defaults.n_predict,
                "temperature": defaults.temperature,
                "top_k": defaults.top_k,
                "top_p": defaults.top_p,
                "seed": defaults.seed,
                "stop": [],
                "stream": defaults.stream,
            },
        },
        "total_slots": 1,
        "model_path": model_name(scheduler),
        "chat_template": "",
        "modalities": {"vision": False, "audio": False},
        "build_info": f"diffill {__version__}",
        "is_sleeping": scheduler.status()["model"]["state"] == "unloaded",
    }

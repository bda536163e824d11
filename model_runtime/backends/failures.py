"""What a library's failure means: that memory ran out, or something that only its own first line can tell."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from model_runtime.protocol import ModelError, OutOfMemory

# Libraries that have no exception of their own for it: ONNX Runtime's arena, the dynamic loader, oneDNN, CUDA, threads.
SAID = re.compile(
    r"bad.?alloc|failed to (allocate|map segment)|(can't|cannot|could not) allocate|out ?of ?memory|bfc_arena"
    r"|can't start new thread",
    re.IGNORECASE,
)


def model_failed(error: Exception) -> ModelError:
    """The error to raise in the place of one that a library raised while the model ran."""
    if ran_out_of_memory(error):
        return OutOfMemory("the model ran out of memory")
    return ModelError(f"the model failed to run: {first_line(error)}")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that no memory was left."""
    return any(
        isinstance(one, MemoryError | OutOfMemory)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or (of_a_library(one) and SAID.search(f"{type(one).__name__} {one}") is not None)
        for one in chain(error)
    )


def of_a_library(error: BaseException) -> bool:
    """Whether an error's words are a library's: those of others may repeat what a user wrote."""
    return isinstance(error, ImportError | RuntimeError) or type(error).__module__.startswith(
        ("onnxruntime.", "torch.")
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

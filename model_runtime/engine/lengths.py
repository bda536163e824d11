"""How many tokens a hole gets.

- `fixed:N`: N masks, no more and no fewer.
- `expand`: the model was trained with DreamOn's tokens (arXiv 2602.01326): a mask may become two, or go away. The
  hole starts with a few masks and finds its size while it is denoised.
"""

from __future__ import annotations

from model_runtime.engine.canvas import Hole, add_masks
from model_runtime.models.families import ModelFacts
from model_runtime.protocol import RequestError


def resolve_policy(length: str, facts: ModelFacts) -> str:
    """The policy that a request's `length` means for this model: "expand", "probe" or "fixed:N"."""
    can_expand = facts.expand_id is not None and facts.delete_id is not None
    if length == "auto":
        return "expand" if can_expand else "probe"
    if length == "expand" and not can_expand:
        raise RequestError(f"{facts.name} was not trained to expand holes; use --length probe or fixed:N")
    return length


def start_holes(holes: list[Hole], policy: str, max_tokens: int, facts: ModelFacts) -> None:
    """Give every hole its first masks."""
    for hole in holes:
        if policy.startswith("fixed:"):
            add_masks(hole, min(int(policy[6:]), max_tokens))
        else:
            add_masks(hole, min(facts.start_masks, max_tokens))

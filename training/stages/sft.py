"""Stage sft: instruction tuning; the prompt is not masked, the answer is, and so are the pads after it.

The condition is added over the first epoch: a row keeps its prompt with a probability that rises from 0 to 1. Every
row has the same length, filled with <|dlm_pad|>, which is trained on: that is how the model learns where to stop.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from model_runtime.models.dream import DreamModel
from model_runtime.models.tokenizer import TextTokenizer
from training.conversations import CHAT_TEMPLATE, Exchange, exchanges_of_pack, lay_out, read_exchanges
from training.errors import TrainingError
from training.models import CHAT_PAD, Files
from training.noisy import TokenIds
from training.rows import Conversation, ConversationRows
from training.scoring import Held
from training.stages.masked import open_model
from training.stages.recipe import StageRecipe

HELD_SHARE = 0.02  # of conversations, kept from training for scoring


def prepare(source: Path) -> tuple[DreamModel, Files]:
    """The masked model in `source`, with a chat template where none came with it."""
    model, files = open_model(source)
    files.others.setdefault("chat_template.jinja", CHAT_TEMPLATE.encode())
    return model, files


def read_conversations(recipe: StageRecipe, tokenizer: TextTokenizer) -> tuple[list[Conversation], list[Conversation]]:
    """The conversations to train on and those to score on: every fiftieth, or a pack's validation documents'."""
    exchanges: list[Exchange] = [one for path in recipe.data.conversations for one in read_exchanges(path)]
    held: list[Exchange] = []
    if exchanges:
        every = round(1 / HELD_SHARE)
        held = exchanges[every - 1 :: every]
        exchanges = [one for number, one in enumerate(exchanges, 1) if number % every]
    if recipe.data.functions is not None:
        exchanges += exchanges_of_pack(recipe.data.functions)
        held += exchanges_of_pack(recipe.data.functions, validation=True)
    if not exchanges:
        raise TrainingError("the corpus is empty: no conversation was found")

    def laid_out(some: list[Exchange]) -> list[Conversation]:
        return [lay_out(one, tokenizer, recipe.data.system) for one in some]

    return laid_out(exchanges), laid_out(held)


def conversation_rows(
    recipe: StageRecipe, files: Files, tokenizer: TextTokenizer, ids: TokenIds
) -> tuple[ConversationRows, Held | None]:
    """Rows to train on, and held-out answers (their pads left out)."""
    pad = files.id_of(CHAT_PAD)
    if pad is None:
        raise TrainingError(f"the tokenizer has no {CHAT_PAD}; run adapt first")
    train, held = read_conversations(recipe, tokenizer)
    rows = ConversationRows(train, recipe.data.length, ids.bos, pad)
    try:
        some = ConversationRows(held, recipe.data.length, ids.bos, pad)
    except TrainingError:
        return rows, None
    chosen = list(islice((some[n] for n in range(len(some))), recipe.scoring.rows))
    answers = [(np.arange(len(row.ids_L)) >= row.prompt) & (row.ids_L != pad) for row in chosen]
    return rows, Held(np.stack([row.ids_L for row in chosen]), np.stack(answers))

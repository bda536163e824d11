"""A checkpoint becomes one ONNX graph: the window pass and the reduction to candidates.

`python -m model_runtime.models.export CHECKPOINT OUT` needs torch and onnx; running the graph needs neither.

Legend as in `model_runtime/models/dream.py`; A candidates a row, C biases. Inputs with a batch have its two axes apart,
[F, G, …]: F pasts, G rows each.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from model_runtime.models.dream import DreamModel
from model_runtime.models.families import CANDIDATES

INPUTS = (
    "ids",
    "positions",
    "segments",
    "past_k",
    "past_v",
    "past_positions",
    "past_segments",
    "rows",
    "bias",
    "bias_rows",
    "targets",
)
OUTPUTS = ("candidate_ids", "candidate_log_probs", "margin", "entropy", "target_log_probs", "k", "v")


def reduce_logits(
    logits_BRV: Tensor, bias_CV: Tensor, bias_rows_BR: Tensor, targets_BR: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Best `count` ids and log-probabilities [B, R, A]; margin p1 - p2, entropy in nats, log-probability of the
    targets [B, R].

    The bias line of each row is added first, so banned ids take no part in any of the figures.
    """
    log_probs_BRV = torch.log_softmax(logits_BRV.float() + bias_CV[bias_rows_BR], dim=-1)
    entropy_BR = -(log_probs_BRV.exp() * log_probs_BRV.clamp_min(-1e4)).sum(-1)
    best, ids = log_probs_BRV.topk(min(count, log_probs_BRV.shape[-1]), dim=-1)
    targets = log_probs_BRV.gather(-1, targets_BR.unsqueeze(-1)).squeeze(-1)
    return ids, best, best[..., 0].exp() - best[..., 1].exp(), entropy_BR, targets


class WindowGraph(nn.Module):
    """What is exported."""

    def __init__(self, model: DreamModel):
        super().__init__()
        self.model = model

    def forward(
        self, ids, positions, segments, past_k, past_v, past_positions, past_segments, rows, bias, bias_rows, targets
    ):
        ids, positions, segments, rows, bias_rows, targets = (
            given.flatten(0, 1) for given in (ids, positions, segments, rows, bias_rows, targets)
        )
        logits_BRV, k, v = self.model.window(
            ids, positions, segments, past_k, past_v, past_positions, past_segments, rows
        )
        return *reduce_logits(logits_BRV, bias, bias_rows, targets, CANDIDATES), k, v


def export_onnx(model: DreamModel, path: Path) -> None:
    """Write the window pass of `model` (float32) to one ONNX file."""
    config = model.config
    layers, kv_heads = config.num_hidden_layers, config.num_key_value_heads
    width = config.hidden_size // config.num_attention_heads
    pasts, group, window, past, rows = 2, 3, 7, 11, 5
    batch = pasts, group
    example = (
        torch.zeros(*batch, window, dtype=torch.long),
        torch.arange(window).repeat(*batch, 1) + past,
        torch.full((*batch, window), -1),
        torch.zeros(layers, pasts, kv_heads, past, width),
        torch.zeros(layers, pasts, kv_heads, past, width),
        torch.arange(past).repeat(pasts, 1),
        torch.zeros(pasts, past, dtype=torch.long),
        torch.zeros(*batch, rows, dtype=torch.long),
        torch.zeros(2, config.vocab_size),
        torch.zeros(*batch, rows, dtype=torch.long),
        torch.zeros(*batch, rows, dtype=torch.long),
    )
    F, G, W, P, R, C = (torch.export.Dim(name, min=1) for name in ("F", "G", "W", "P", "R", "C"))
    axes = {
        "ids": {0: F, 1: G, 2: W},
        "positions": {0: F, 1: G, 2: W},
        "segments": {0: F, 1: G, 2: W},
        "past_k": {1: F, 3: P},
        "past_v": {1: F, 3: P},
        "past_positions": {0: F, 1: P},
        "past_segments": {0: F, 1: P},
        "rows": {0: F, 1: G, 2: R},
        "bias": {0: C},
        "bias_rows": {0: F, 1: G, 2: R},
        "targets": {0: F, 1: G, 2: R},
    }
    logging.disable(logging.WARNING)  # the exporter reports every node that it folds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            WindowGraph(model.float().eval()),
            example,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=axes,
            dynamo=True,
            verbose=False,
        )
    logging.disable(logging.NOTSET)
    assert program is not None
    program.save(str(path), external_data=False)
    forget_where(path)


def forget_where(path: Path) -> None:
    """Take out of a graph what the exporter wrote about the machine it ran on: stack traces with their folders."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    onnx.save(model, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(argv)
    export_onnx(DreamModel.from_pretrained(arguments.checkpoint, dtype=torch.float32), arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

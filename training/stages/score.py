"""`diffill train score`: what training measures (bits a byte, lines given back), of checkpoints, on more rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from model_runtime.commands.options import Parser, whole_number
from training import parallel
from training.models import check_sizes, model_folder, read_files, read_model, token_ids
from training.rows import PackedRows
from training.scoring import Held, Scorer
from training.stages.recipe import Scoring
from training.stages.stage import bytes_of, open_pack, text_tokenizer

EXAMPLES = """\
examples:
  diffill train score build/pipeline/adapt build/pipeline/midtrain --pack build/pipeline/corpus --rows 128
"""


def main(argv: list[str]) -> int:
    """Run `diffill train score ARGV…` and return the exit code."""
    parser = Parser(prog="diffill train score", epilog=EXAMPLES)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="runs, or folders of models")
    parser.add_argument("--pack", required=True, type=Path, metavar="DIR", help="whose validation documents")
    parser.add_argument("--length", type=whole_number, default=256, help="tokens of a row (default: 256)")
    parser.add_argument("--rows", type=whole_number, default=64, help="(default: 64)")
    parser.add_argument("--holes", type=whole_number, default=64, help="lines to give back (default: 64)")
    parser.add_argument("--micro", type=whole_number, default=8, help="rows of a forward (default: 8)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if there is one)")
    args = parser.parse_args(argv)
    accelerator = parallel.start_processes(args.device, "float32")
    settings = Scoring(rows=args.rows, holes=args.holes, ratios=[0.15, 0.5, 0.85])
    for run in args.runs:
        folder = model_folder(run)
        model, files = read_model(folder), read_files(folder)
        check_sizes(model, files)
        ids, pack = token_ids(model, files), open_pack(args.pack, files)
        rows = PackedRows(pack, (pack.validation_from, len(pack)), args.length, ids.bos, ids.eos, str(args.pack))
        chosen = np.linspace(0, len(rows) - 1, min(len(rows), args.rows)).astype(int)
        ids_RL = np.stack([rows[int(n)].ids_L for n in chosen])
        held = Held(ids_RL, np.broadcast_to(np.arange(ids_RL.shape[1]) >= 1, ids_RL.shape).copy())
        sizes_V = bytes_of(text_tokenizer(files), model.config.vocab_size)
        scorer = Scorer(held, sizes_V, ids.mask is None, ids.mask, ids.newline, settings, args.micro)
        scores = scorer(model.to(accelerator.device), accelerator)
        print(f"{run}  " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
        print(json.dumps({"run": str(run), "checkpoint": folder.name, "rows": len(chosen), **scores}), flush=True)
    return 0

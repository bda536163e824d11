"""Builds a corpus from a recipe, in steps that each leave whole files, so that a killed build goes on.

    inputs → judged/N (texts, sketches, list) → chosen (copies out, caps, order, shards) → tokenizer → tokens-N → index

Same recipe, inputs and seed give the same bytes, however many processes work and wherever a build was interrupted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer

from model_runtime.protocol import RequestError
from training.corpus import report, sources
from training.corpus.clean import MEGABYTE
from training.corpus.duplicates import find_copies
from training.corpus.inputs import Inputs, Task, find_inputs
from training.corpus.judge import NEVER, TRAIN, VALIDATION, chance, held_out_runs, judge_task
from training.corpus.recipe import Cluster, Recipe
from training.corpus.shards import shard_name, write_shard
from training.corpus.special_tokens import ROLES, take_tokenizer
from training.corpus.store import Texts, alone, make_folder, replacing, write_array, write_json
from training.corpus.tokenizer import load_tokenizer, train_tokenizer
from training.recipe import fingerprint, git_commit, save_resolved

COPY_REASONS = ("copy of a held-out package", "copy of a validation text", "duplicate")
FORMAT = 2
Document = dict[str, Any]


def build_corpus(recipe: Recipe, out: Path, workers: int = 0, console: Console | None = None) -> dict[str, Any]:
    """Builds the corpus of `recipe` in the folder `out` and returns its report. 0 workers: one a core."""
    console = console or Console(stderr=True)
    workers = workers or os.cpu_count() or 1
    inputs, held_out, made_of = plan(recipe)
    with alone(out):
        if start(out, made_of):
            console.print(f"{out} is built already; remove it to build it anew")
            return json.loads((out / "report.json").read_text("utf-8"))
        judge_inputs(recipe, inputs, out, held_out, workers, console)
        return finish(recipe, out, len(inputs.tasks), inputs.left_out, workers, console)


def plan(recipe: Recipe) -> tuple[Inputs, np.ndarray, str]:
    """(what there is to read, hashes of held-out code, fingerprint of all that decides the corpus)."""
    inputs = find_inputs(recipe)
    if not inputs.tasks:
        raise RequestError("the sources hold no files: there is nothing to make a corpus of")
    held_out = held_out_runs(sources.held_out_texts() if set(sources.HELD_OUT) <= set(recipe.holdout.never) else ())
    same_bytes = dataclasses.replace(recipe, cluster=Cluster())
    return (
        inputs,
        held_out,
        fingerprint([same_bytes, inputs.facts, hashlib.sha256(held_out.tobytes()).hexdigest(), FORMAT]),
    )


def start(out: Path, made_of: str) -> bool:
    """Makes the folders ready; True when this very corpus is there. What another recipe left is removed."""
    plan = out / "work" / "plan.json"
    make_folder(plan.parent)
    known = json.loads(plan.read_text("utf-8"))["made_of"] if plan.is_file() else None
    if known == made_of:
        whole = (out / "report.json").is_file()
        if whole:
            clear_work(out)
        return whole
    if known is None and any(out.glob("tokens*.npy")):
        raise RequestError(f"{out} holds a corpus that this command did not begin: choose another folder")
    for path in [*out.glob("tokens-*.npy"), *(out / name for name in report.FILES)]:
        path.unlink(missing_ok=True)
    shutil.rmtree(out / "work")
    make_folder(out / "work" / "judged")
    write_json(plan, {"made_of": made_of})
    return False


def calm(_: int = 0) -> None:
    """A worker leaves Ctrl-C to the process that started it, and computes on one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def spread(work: Callable[..., None], jobs: Sequence[tuple[Any, ...]], workers: int, what: str, out: Console) -> None:
    """Does every job, in `workers` processes; the first error ends it, and finished jobs stay finished."""
    if not jobs:
        return
    if workers < 2 or len(jobs) < 2:
        for job in track(jobs, what, console=out, transient=True, disable=not out.is_terminal):
            work(*job)
        return
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, calm) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            for future in track(futures, what, console=out, transient=True, disable=not out.is_terminal):
                future.result()
        except BrokenProcessPool:
            raise RequestError(
                f"a process was killed while it was to {what}, often for want of memory: "
                "give the same command again with fewer --workers, it goes on from there"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def stem_of(out: Path, number: int) -> Path:
    """Where the texts of task `number` lie, without the suffix."""
    return out / "work" / "judged" / f"{number:06d}"


def judge_inputs(
    recipe: Recipe, inputs: Inputs, out: Path, held_out: np.ndarray, workers: int, console: Console
) -> None:
    """Reads and judges what has not been yet."""
    jobs: list[tuple[Recipe, Task, Path, np.ndarray]] = [
        (recipe, task, stem_of(out, number), held_out)
        for number, task in enumerate(inputs.tasks)
        if not stem_of(out, number).with_suffix(".json").is_file()
    ]
    spread(judge_task, jobs, workers, "read and judge", console)


def finish(
    recipe: Recipe, out: Path, tasks: int, left_out: dict[str, str], workers: int, console: Console
) -> dict[str, Any]:
    """From judged texts to the corpus."""
    chosen = choose(recipe, out, tasks)
    tokenizer = make_tokenizer(recipe, out, chosen, console)
    spread(pack_shard, shard_jobs(out, chosen["shards"]), workers, "encode", console)
    return write_index(recipe, out, chosen, tokenizer, left_out)


def shard_jobs(out: Path, shards: Sequence[Sequence[Document]]) -> list[tuple[Path, int, list[tuple[int, int, int]]]]:
    """What `pack_shard` takes, for each shard that is not there yet."""
    return [
        (out, number, [(d["task"], d["start"], d["end"]) for d in shard])
        for number, shard in enumerate(shards)
        if not (out / "work" / f"lengths-{number:05d}.npy").is_file()
    ]


def choose(recipe: Recipe, out: Path, tasks: int) -> dict[str, Any]:
    """The documents of the corpus in their final order, by shard, and the counts of what was dropped."""
    file = out / "work" / "chosen.json"
    if file.is_file():
        return json.loads(file.read_text("utf-8"))
    documents: list[Document] = []
    sketches: list[np.ndarray] = []
    dropped: Counter[str] = Counter()
    scrubbed: Counter[str] = Counter()
    for number in range(tasks):
        judged = json.loads(stem_of(out, number).with_suffix(".json").read_text("utf-8"))
        documents += [document | {"task": number} for document in judged["documents"]]
        if judged["documents"] and recipe.duplicates.near is not None:
            sketches.append(np.load(stem_of(out, number).with_suffix(".npy")))
        dropped.update(judged["dropped"])
        scrubbed.update(judged["scrubbed"])
    found = len(documents) + sum(dropped.values())
    names = [source.name for source in recipe.sources]
    kept, copies = find_copies(
        documents,
        np.concatenate(sketches) if sketches else None,
        names,
        recipe.duplicates.exact,
        recipe.duplicates.near,
        COPY_REASONS,
    )
    dropped += copies
    left = [documents[number] for number in kept]
    train = weigh(recipe, cap(recipe, [d for d in left if d["role"] == TRAIN], dropped), dropped)
    validation = [d for d in left if d["role"] == VALIDATION]
    for document in left:
        if document["role"] == NEVER:
            dropped[f"{document['source']}\0held out for evaluation"] += 1
    if not train:
        raise RequestError(nothing_left(found, dropped, len(validation)))
    train.sort(key=lambda d: place_of(recipe, d))
    if not validation:  # so that a run always has something to be measured on
        if len(train) == 1:
            raise RequestError("one document is left: too few for a corpus")
        validation.append(train.pop())
    validation.sort(key=lambda d: place_of(recipe, d))
    chosen = {
        "shards": cut(train, recipe.shard_mb) + cut(validation, recipe.shard_mb),
        "validation_from": len(train),
        "found": found,
        "dropped": dict(sorted(dropped.items())),
        "scrubbed": dict(sorted(scrubbed.items())),
    }
    write_json(file, chosen)
    return chosen


def nothing_left(found: int, dropped: Counter[str], validation: int) -> str:
    """Why there is no corpus, in one sentence."""
    reasons: Counter[str] = Counter()
    for name, count in dropped.items():
        reasons[name.split("\0")[1]] += count
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(4))
    if validation:
        return f"all {validation} documents that are left are for validation: set holdout.by to document"
    return f"nothing is left of {found} texts to train on" + (f" ({told})" if told else "")


def place_of(recipe: Recipe, document: Document) -> tuple[float, str, str]:
    """What the order of documents is sorted by: seeded, and the same whatever order they were found in."""
    names = (document["source"], document["group"], document["path"], document["digest"])
    return chance(recipe, "order", *names, str(document.get("copy", 0))), document["group"], document["path"]


def cap(recipe: Recipe, train: list[Document], dropped: Counter[str]) -> list[Document]:
    """A seeded choice within each source's cap, then of tests within their share of the code."""
    caps = {source.name: source.cap_mb for source in recipe.sources}
    by_source: defaultdict[str, list[Document]] = defaultdict(list)
    tests: list[Document] = []
    for document in train:
        apart = recipe.tests_share is not None and document["kind"] == "tests"
        (tests if apart else by_source[document["source"]]).append(document)
    kept: list[Document] = []
    for name in sorted(by_source):
        limit = caps[name]
        kept += within(
            recipe, by_source[name], None if limit is None else limit * MEGABYTE, "over the source's cap", dropped
        )
    if recipe.tests_share is not None:
        # with no code at all, tests are what the corpus is of
        size = sum(d["end"] - d["start"] for d in kept)
        kept += within(recipe, tests, recipe.tests_share * size if kept else None, "over the tests' cap", dropped)
    return kept


def weigh(recipe: Recipe, train: Sequence[Document], dropped: Counter[str]) -> list[Document]:
    """Each document as often as its source weighs: 2.5 is twice, and once more for a seeded half of them."""
    weights = {source.name: source.weight for source in recipe.sources}
    weighed: list[Document] = []
    for document in train:
        weight = weights[document["source"]]
        names = (document["source"], document["group"], document["path"], document["digest"])
        copies = int(weight) + (chance(recipe, "copies", *names) < weight % 1)
        if copies == 0:
            dropped[f"{document['source']}\0below its source's weight"] += 1
        weighed += [document | {"copy": number} for number in range(copies)]
    return weighed


def within(
    recipe: Recipe, documents: list[Document], limit: float | None, reason: str, dropped: Counter[str]
) -> list[Document]:
    """A seeded part of `documents` of at most `limit` bytes; the others are counted."""
    if limit is None:
        return documents
    kept, total = [], 0
    for document in sorted(documents, key=lambda d: place_of(recipe, d)):
        size = document["end"] - document["start"]
        if total + size <= limit:
            kept.append(document)
            total += size
        else:
            dropped[f"{document['source']}\0{reason}"] += 1
    return kept


def cut(documents: Sequence[Document], megabytes: float) -> list[list[Document]]:
    """Runs of documents of about `megabytes` of text."""
    shards: list[list[Document]] = []
    size = 0.0
    for document in documents:
        if not shards or size >= megabytes * MEGABYTE:
            shards.append([])
            size = 0.0
        shards[-1].append(document)
        size += document["end"] - document["start"]
    return shards


def texts_of(out: Path, documents: Iterable[tuple[int, int, int]]) -> list[str]:
    """The texts of (task, start, end), in that order; each task's file is opened once."""
    wanted = list(documents)
    by_task: defaultdict[int, list[int]] = defaultdict(list)
    for place, (task, _, _) in enumerate(wanted):
        by_task[task].append(place)
    texts = [""] * len(wanted)
    for task, places in by_task.items():
        found = Texts(stem_of(out, task).with_suffix(".texts")).read([wanted[place][1:] for place in places])
        for place, text in zip(places, found, strict=True):
            texts[place] = text
    return texts


def make_tokenizer(recipe: Recipe, out: Path, chosen: dict[str, Any], console: Console) -> Tokenizer:
    """The tokenizer of the corpus, which is trained or taken once and then read back."""
    file = out / "tokenizer.json"
    if not file.is_file():
        if recipe.tokenizer.take is not None:
            tokenizer, ids = take_tokenizer(recipe.tokenizer.take, recipe.tokenizer.add)
        else:
            console.print("training the tokenizer")
            try:
                tokenizer = train_tokenizer(sample(recipe, out, chosen), recipe.tokenizer.vocabulary)
            except ValueError as error:
                raise RequestError(f"no tokenizer: {error}; set tokenizer.vocabulary lower") from error
            ids = {role: i for role, spelling in ROLES.items() if (i := tokenizer.token_to_id(spelling)) is not None}
            pad = tokenizer.token_to_id("<|pad|>")
            ids |= {} if pad is None else {"pad": pad}
        write_json(out / "special_ids.json", {f"{role}_token_id": number for role, number in sorted(ids.items())})
        with replacing(file) as stream:
            stream.write(tokenizer.to_str(pretty=True).encode())
    return load_tokenizer(file)


def sample(recipe: Recipe, out: Path, chosen: dict[str, Any]) -> Iterable[str]:
    """Training texts for the tokenizer, from the first shard on, up to the recipe's limit."""
    left, seen = recipe.tokenizer.sample_mb * MEGABYTE, 0
    for shard in chosen["shards"]:
        for text in texts_of(out, ((d["task"], d["start"], d["end"]) for d in shard)):
            if left <= 0 or seen >= chosen["validation_from"]:
                return
            seen += 1
            left -= len(text.encode())
            yield text


def pack_shard(out: Path, number: int, documents: Sequence[tuple[int, int, int]]) -> None:
    """Writes the tokens of one shard."""
    write_shard(out, number, texts_of(out, documents), load_tokenizer(out / "tokenizer.json"))


def write_index(
    recipe: Recipe, out: Path, chosen: dict[str, Any], tokenizer: Tokenizer, left_out: dict[str, str]
) -> dict[str, Any]:
    """Writes where documents start and what they are, the report and the resolved recipe; removes the work."""
    documents = [document for shard in chosen["shards"] for document in shard]
    lengths = [np.load(out / "work" / f"lengths-{number:05d}.npy") for number in range(len(chosen["shards"]))]
    lengths_D = np.concatenate(lengths)
    names = [source.name for source in recipe.sources]
    write_array(out / "documents.npy", np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_D)]))
    write_array(out / "sources.npy", np.array([names.index(d["source"]) for d in documents], np.uint16))
    digest = hashlib.sha256()
    with replacing(out / "documents.json") as file:  # a list with one document a line
        for number, document in enumerate(documents):
            line = {key: document[key] for key in ("source", "group", "path", "kind", "licence", "digest")}
            raw = f"{',' if number else '['}\n{json.dumps(line)}".encode()
            digest.update(raw)
            file.write(raw)
        file.write(b"\n]\n")
    fingerprints = {
        "documents": digest.hexdigest()[:16],
        "tokenizer": hashlib.sha256((out / "tokenizer.json").read_bytes()).hexdigest()[:16],
    }
    facts = report.summarise(recipe, documents, lengths_D, chosen, left_out)
    facts |= {
        "format": FORMAT,
        "seed": recipe.seed,
        "vocabulary": tokenizer.get_vocab_size(),
        "shards": [shard_name(number) for number in range(len(chosen["shards"]))],
        "fingerprints": fingerprints,
    }
    save_resolved(out / "recipe.yaml", recipe, {"commit": git_commit(), "fingerprints": fingerprints})
    report.write_html(out / "report.html", facts, lengths_D)
    write_json(out / "report.json", facts)  # last: it says that the corpus is whole
    clear_work(out)
    return facts


def clear_work(out: Path) -> None:
    """Removes all work but the note of what the corpus was made of."""
    for path in (out / "work").iterdir():
        if path.name != "plan.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()

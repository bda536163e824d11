"""What a run's samples come to: pass@k with intervals, infilling's own figures, latency, AR-ness.

Problems are what intervals are over: each gives one value, the mean over its samples and seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from model_runtime.protocol import RequestError
from training.evaluation.arness import arness
from training.evaluation.passk import bootstrap, pass_at_k

Row = Mapping[str, Any]
KS = (1, 2, 4, 8)  # of AR-ness
DISTANCE_SAMPLES = 16  # orders of a problem that are compared with one another


def by_problem(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each problem, in the order in which problems first appear."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["task_id"], []).append(row)
    return groups


def by_temperature(rows: Iterable[Row]) -> dict[float, list[Row]]:
    """The rows of each temperature, ascending."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(float(row["temperature"]), []).append(row)
    return dict(sorted(groups.items()))


def summarize(
    rows: Sequence[Row], ks: Sequence[int], bounds: Mapping[str, Mapping[str, bool]] | None = None
) -> dict[str, Any]:
    """All figures of a run: those of each temperature, which temperature is best, and what bounds them.

    `bounds` say of each problem whether "gold" passes, and "nothing".

    RequestError for a k larger than the samples of a problem.
    """
    found: dict[str, Any] = {
        "temperatures": {str(temperature): figures(group, ks) for temperature, group in by_temperature(rows).items()}
    }
    if len(found["temperatures"]) > 1:
        name = f"pass@{ks[0]}"
        best = max(found["temperatures"], key=lambda t: found["temperatures"][t][name]["mean"])
        count = len(found["temperatures"])
        found["best"] = {
            "temperature": float(best),
            name: found["temperatures"][best][name],
            "note": f"the best of {count} temperatures, chosen by these very results, as the paper reports",
        }
    for name, passed in (bounds or {}).items():
        if passed:
            found[name] = asdict(bootstrap([float(value) for value in passed.values()]))
    return found


def figures(rows: Sequence[Row], ks: Sequence[int]) -> dict[str, Any]:
    """The figures of one temperature's samples."""
    groups = by_problem(rows)
    found: dict[str, Any] = {"problems": len(groups), "samples": len(rows)}
    for k in ks:
        found[f"pass@{k}"] = asdict(bootstrap([problem_pass(group, k) for group in groups.values()]))
    suites = list(rows[0]["suites"])
    if len(suites) > 1:
        found["suites"] = {name: mean_over(groups, lambda row, name=name: row["suites"][name]) for name in suites}
    seeds = sorted({row["seed"] for row in rows})
    rates = [statistics.fmean(row["passed"] for row in rows if row["seed"] == seed) for seed in seeds]
    found["seeds"] = dict(zip(map(str, seeds), rates, strict=True))
    found["seeds_sd"] = statistics.stdev(rates) if len(rates) > 1 else None
    found["parses"] = mean_over(groups, lambda row: row["parses"])
    if "exact" in rows[0]:
        for name in ("exact", "echo"):
            found[name] = mean_over(groups, lambda row, name=name: row[name])
        found["gap_mean"] = statistics.fmean(row["gap"] for row in rows)
        found["gap_absolute"] = statistics.fmean(abs(row["gap"]) for row in rows)
    return found | latency(rows) | orders(groups)


def problem_pass(rows: Sequence[Row], k: int) -> float:
    """A problem's pass@k from all its samples, whatever their seeds."""
    return pass_at_k(len(rows), sum(row["passed"] for row in rows), k)


def mean_over(groups: Mapping[str, Sequence[Row]], value: Any) -> dict[str, float]:
    """The mean of a value of samples, with its interval over problems."""
    return asdict(bootstrap([statistics.fmean(float(value(row)) for row in group) for group in groups.values()]))


def latency(rows: Sequence[Row]) -> dict[str, Any]:
    """Times: of a sample, and all the time spent over the characters of the samples that passed."""
    accepted = sum(len(row["text"].strip()) for row in rows if row["passed"])
    spent = sum(row["ms"] for row in rows)
    return {
        "ms_median": statistics.median(row["ms"] for row in rows),
        "tokens_mean": statistics.fmean(row["tokens"] for row in rows),
        "accepted_characters": accepted,
        "ms_per_accepted_character": spent / accepted if accepted else None,
    }


def orders(groups: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """AR-ness: the mean over samples, and the standard deviation; how many tokens shared a step; order diversity.

    Nothing where every sample was written in one step (the engine's search has no order of revealing).
    """
    samples = [row for group in groups.values() for row in group if row["steps"] > 1]
    if not samples:
        return {}
    every = [arness(row["order"], KS) for row in samples]
    found: dict[str, Any] = {}
    for name in every[0]:
        for k in KS:
            values = [value for one in every if (value := one[name][k]) is not None]
            if values:
                sd = statistics.stdev(values) if len(values) > 1 else 0.0
                share = len(values) / len(samples)  # of samples long enough for this k
                found.setdefault(name, {})[str(k)] = {"mean": statistics.fmean(values), "sd": sd, "share": share}
    positions, steps = sum(len(row["order"]) for row in samples), sum(row["steps"] for row in samples)
    known = by_problem(samples).values()
    spread = [d for group in known if (d := order_distance([row["order"] for row in group])) is not None]
    return {
        "arness": found,
        "tokens_a_step": positions / max(1, steps),
        "order_distance": statistics.fmean(spread) if spread else None,
        "distinct": statistics.fmean(len({row["text"] for row in group}) / len(group) for group in groups.values()),
    }


def order_distance(found: Sequence[Sequence[int]]) -> float | None:
    """How differently samples of one problem were ordered: the mean of `kendall_distance` over all pairs of them."""
    chosen = [order for order in found if len(order) > 1][:DISTANCE_SAMPLES]
    pairs = [(a, b) for n, a in enumerate(chosen) for b in chosen[:n]]
    distances = [distance for a, b in pairs if (distance := kendall_distance(a, b)) is not None]
    return statistics.fmean(distances) if distances else None


def kendall_distance(a: Sequence[int], b: Sequence[int]) -> float | None:
    """The share of pairs of positions that two orders reveal in opposite order: 0 the same, 0.5 unrelated, 1 reversed.

    Of the positions that both reveal; None for fewer than two.
    """
    import numpy as np

    from training.evaluation.arness import ranks_left

    both = set(a) & set(b)
    if len(both) < 2:
        return None
    place = {position: n for n, position in enumerate(position for position in b if position in both)}
    turned = ranks_left(np.array([place[position] for position in a if position in both])).sum()
    return float(turned) / (len(both) * (len(both) - 1) / 2)


def check_ks(ks: Sequence[int], samples: int) -> None:
    """RequestError for a k that so many samples a problem cannot answer."""
    for k in ks:
        if k < 1:
            raise RequestError(f"k of pass@k is at least 1, not {k}")
        if k > samples:
            raise RequestError(
                f"pass@{k} needs at least {k} samples a problem, and there are {samples}: raise --samples or lower --k"
            )

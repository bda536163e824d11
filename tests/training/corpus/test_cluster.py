"""The steps as datatrove pipelines: the bytes of a local build, by its local executor and by what it hands to Slurm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from world import QUIET, contents, recipe_of

from model_runtime.cli import main
from model_runtime.protocol import RequestError
from training.corpus.cluster import build_on_cluster
from training.corpus.pipeline import build_corpus

# Takes a job as sbatch does and runs it at once, the tasks of its array one after the other.
SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
with open({log!r}, "a") as log:
    print(re.search("job-name=(.*)", script)[1], *sys.argv[1:-1], "merge_stats" in script, file=log)
if "merge_stats" not in script:
    for task in range(int(re.search("array=0-([0-9]+)", script)[1]) + 1):
        node = dict(SLURM_NODELIST="node1", SLURM_CPUS_PER_TASK="1", SLURM_MEM_PER_CPU="1000", SLURM_GPUS_ON_NODE="0")
        env = dict(os.environ, **node, SLURM_ARRAY_TASK_ID=str(task), RUN_OFFSET="0")
        subprocess.run(["bash", "-c", script], env=env, check=True, capture_output=True)
print("Submitted batch job", len(open({log!r}).readlines()))
"""
SRUN = """#!/bin/sh
while [ "$1" != launch_pickled_pipeline ]; do shift; done
exec "$@"
"""


def same(here: Path, there: Path) -> bool:
    """Whether two corpora are equal but for the report's picture, which is drawn in another process."""
    first, second = contents(here), contents(there)
    return bool(first.pop("report.html") and second.pop("report.html")) and first == second


def small(packages: Path, **cluster):
    source = {"kind": "folder", "path": f"{packages}/*", "name": "code"}
    return recipe_of(sources=[source], shard_mb=0.02, cluster=cluster)


def test_the_cluster_gives_the_same_bytes(packages, tmp_path):
    recipe = small(packages, executor="local", tasks=2, workers=1)
    report = build_on_cluster(recipe, tmp_path / "cluster")
    assert report == build_corpus(recipe, tmp_path / "here", 1, QUIET)
    assert same(tmp_path / "here", tmp_path / "cluster")
    assert build_on_cluster(recipe, tmp_path / "cluster") == report


def test_jobs_for_slurm_build_it_in_order(packages, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    log = tools / "log"
    sbatch = SBATCH.format(python=sys.executable, log=str(log))
    for name, text in (("sbatch", sbatch), ("srun", SRUN), ("scontrol", "#!/bin/sh\necho node1\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin")
    recipe = small(packages, executor="slurm", tasks=1, partition="cpu")
    # the report is there at once, because this sbatch does not queue
    assert build_on_cluster(recipe, tmp_path / "slurm") == build_corpus(recipe, tmp_path / "here", 1, QUIET)
    assert same(tmp_path / "here", tmp_path / "slurm")
    jobs = [line.split() for line in log.read_text().splitlines() if line.endswith("False")]
    assert [job[0] for job in jobs] == ["corpus-read", "corpus-choose", "corpus-encode", "corpus-index"]
    waits = [next((word for word in job if word.startswith("--dependency")), "") for job in jobs]
    assert waits == ["", "--dependency=afterok:1", "--dependency=afterok:3", "--dependency=afterok:5"]


def test_slurm_needs_a_partition(packages, tmp_path):
    with pytest.raises(RequestError, match=r"cluster\.partition is needed"):
        build_on_cluster(small(packages, executor="slurm"), tmp_path / "out")


def test_an_error_of_a_task_is_one_sentence(packages, tmp_path, capfd):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"sources: [{{kind: folder, path: '{packages}/*', name: code}}]\nlicences: [ISC]\n"
        "cluster: {tasks: 1, workers: 1}\n"
    )
    assert main(["train", "corpus", str(recipe), "--cluster", "--out", str(tmp_path / "out")]) == 2
    error = capfd.readouterr().err
    assert error.splitlines()[-1].startswith("diffill: nothing is left of 41 texts")  # after datatrove's log

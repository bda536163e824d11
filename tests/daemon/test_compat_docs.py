"""The settings on the editors page are for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from model_runtime.daemon.compat.markers import take_apart
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.daemon.server import Daemon

DOCS = Path(__file__).parents[2] / "docs"
SECTION = re.search(r"\n## Editors that speak to.*?(?=\n## )", (DOCS / "editors.md").read_text(), re.DOTALL).group()
PATHS = {route.path for route in Daemon(Scheduler(), "x" * 16).app().routes}


def test_paths_are_there():
    named = set(re.findall(r"8012(/[\w/]+)", SECTION)) | set(re.findall(r"\| `(/[\w/]+)`", SECTION))
    assert {"/infill", "/v1/completions", "/completion"} <= named <= PATHS | {"/v1"}
    described = set(re.findall(r"`(?:GET|POST) (/[\w/.]*)`", (DOCS / "protocol.md").read_text()))
    assert described == PATHS


@pytest.mark.parametrize("block", re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL))
def test_settings_in_json_can_be_read(block):
    assert json.loads(block)


def test_the_template_for_continue_is_one_that_is_taken_apart():
    (block,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    template = yaml.safe_load(block)["models"][0]["promptTemplates"]["autocomplete"]
    marked = take_apart(template.replace("{{{prefix}}}", "a = ").replace("{{{suffix}}}", "\n"))
    assert (marked.before, marked.after) == ("a = ", "\n")

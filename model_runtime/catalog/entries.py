"""Models that have a name: where they come from, under which licence, how much memory they need.

Revisions are commits of the repositories on the Hugging Face hub, as public evaluations of these checkpoints recorded
them; with None, what is fetched is the newest, its revision noted beside it. Hashes are not
listed here: the hub tells those of the pinned revision, and they are checked and kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from model_runtime.models.families import family_named

APACHE = "Apache-2.0"
MIT = "MIT"
APPLE = "apple-amlr"
LICENCES = {
    APACHE: ("use, changes and distribution are free, with the licence and notices kept", "https://www.apache.org/licenses/LICENSE-2.0"),
    MIT: ("use, changes and distribution are free, with the licence kept", "https://opensource.org/license/mit"),
    APPLE: ("Apple's licence for models: research only, no commercial use", "https://huggingface.co/apple/DiffuCoder-7B-Base/blob/main/LICENSE"),
    None: ("its repository states no licence that we know: ask its authors before you use it", None),
}  # fmt: skip
WORK = 0.6e9  # bytes beside the weights: activations, keys and values, the libraries


@dataclass(frozen=True)
class Entry:
    """A model that can be fetched. `tables` are the parameters of embedding and head, which are never quantized."""

    name: str
    title: str
    repository: str
    family: str  # a row of models/families.py
    licence: str | None
    revision: str | None
    parameters: float
    tables: float
    size: float  # bytes to fetch, about
    use: str

    @property
    def terms(self) -> str:
        """What the licence allows, in a sentence's part."""
        return LICENCES[self.licence][0]

    @property
    def licence_url(self) -> str:
        """Where the licence can be read."""
        return LICENCES[self.licence][1] or f"https://huggingface.co/{self.repository}"

    @property
    def instructed(self) -> bool:
        """Whether it follows instructions; a folder's name says so where it is one of a family that may or may not."""
        pattern = family_named(self.family).instruct
        return re.search(pattern, self.name) is not None

    def memory(self) -> dict[str, int]:
        """Bytes of memory that the model needs, by precision."""
        rest = self.parameters - self.tables
        sizes = {"float32": 4 * self.parameters, "bfloat16": 2 * self.parameters}
        sizes |= {"int8": rest + 2 * self.tables, "nf4": 0.5625 * rest + 2 * self.tables}  # a scale for 64 numbers
        return {precision: int(size + WORK) for precision, size in sizes.items()}


QWEN_7B = {"parameters": 7.6156e9, "tables": 1.0900e9, "size": 15.24e9}  # 28 layers of 3,584, vocabulary 152,064
ENTRIES = (
    Entry(
        "dreamon-7b", "DreamOn 7B", "Dream-org/DreamOn-v0-7B", "DreamOn", APACHE,
        "8ccc74750e43177327f29dab9e91882ba759e194", **QWEN_7B, use="fills holes and finds their length: recommended",
    ),
    Entry(
        "dream-coder-7b-base", "Dream-Coder 7B Base", "Dream-org/Dream-Coder-v0-Base-7B", "Dream-Coder", APACHE,
        "2346ccd3be517d0d314152b988a3b9bafa7d6d63", **QWEN_7B, use="fills holes",
    ),
    Entry(
        "dream-coder-7b-instruct", "Dream-Coder 7B Instruct", "Dream-org/Dream-Coder-v0-Instruct-7B", "Dream-Coder",
        APACHE, "5d9e88c723af9045f362748b5284bdf43d9c501e", **QWEN_7B, use="rewrites by instruction: recommended",
    ),
    Entry(
        "dream-7b-base", "Dream 7B Base", "Dream-org/Dream-v0-Base-7B", "Dream", APACHE,
        "6572adb5535263e4d1a337b56942ba48b6dee2a9", **QWEN_7B, use="fills holes",
    ),
    Entry(
        "dream-7b-instruct", "Dream 7B Instruct", "Dream-org/Dream-v0-Instruct-7B", "Dream", APACHE,
        "05334cb9faaf763692dcf9d8737c642be2b2a6ae", **QWEN_7B, use="rewrites by instruction",
    ),
    Entry(
        "diffucoder-7b-base", "DiffuCoder 7B Base", "apple/DiffuCoder-7B-Base", "DiffuCoder", APPLE,
        "a2c33054cbe99b9ab7af074f09b1d13943157ff1", **QWEN_7B, use="fills holes; research only",
    ),
    Entry(
        "diffucoder-7b-instruct", "DiffuCoder 7B Instruct", "apple/DiffuCoder-7B-Instruct", "DiffuCoder Instruct",
        APPLE, "4fdd4580064ca5d11808069ce78f88d068753c96", **QWEN_7B, use="rewrites by instruction; research only",
    ),
    Entry(
        "diffucoder-7b-cpgrpo", "DiffuCoder 7B cpGRPO", "apple/DiffuCoder-7B-cpGRPO", "DiffuCoder Instruct", APPLE,
        "98bc42bfd871eeec92fd0a8439ab34f75b405204", **QWEN_7B, use="rewrites by instruction; research only",
    ),
    Entry(
        "open-dcoder-0.5b", "Open-dCoder 0.5B", "fredzzp/open-dcoder-0.5B", "Open-dCoder", None,
        "d0d86d5b99960c05258bb1f8265dd91564dbac67", parameters=0.494e9, tables=0.1361e9, size=0.99e9,
        use="fills holes; runs on a processor",
    ),
    Entry(
        "stable-diffcoder-8b-instruct", "Stable-DiffCoder 8B Instruct", "ByteDance-Seed/Stable-DiffCoder-8B-Instruct",
        "Stable-DiffCoder", MIT, "10cdaf9b486f1cf0273ad968459dbe2d21a1482a",
        parameters=8.25e9, tables=1.271e9, size=16.5e9, use="rewrites by instruction",
    ),
    Entry(
        "llada-8b-base", "LLaDA 8B Base", "GSAI-ML/LLaDA-8B-Base", "LLaDA", MIT,
        "0f2787f2d87eac5eed8a087d5ecd24277e6255b2", parameters=8.016e9, tables=1.036e9, size=16.03e9, use="fills holes",
    ),
    Entry(
        "llada-8b-instruct", "LLaDA 8B Instruct", "GSAI-ML/LLaDA-8B-Instruct", "LLaDA", MIT,
        "08b83a6feb34df1a6011b80c3c00c7563e963b07", parameters=8.016e9, tables=1.036e9, size=16.03e9,
        use="rewrites by instruction",
    ),
)  # fmt: skip
BY_NAME = {entry.name: entry for entry in ENTRIES}

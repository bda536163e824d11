"""Pairs of lines that are cut out together."""

import pytest

from training.evaluation.pairs import APART, sample_pairs

TEXT = "".join(f"value_{n} = {n}\n" for n in range(30))


def test_what_was_cut_out_makes_the_file_whole_again():
    for pair in sample_pairs([TEXT, "short = 1\n"], 50, seed=3):
        (a, _), (b, _) = pair.holes
        first, second = pair.truths
        assert pair.text[:a] + first + pair.text[a:b] + second + pair.text[b:] == TEXT
        between = pair.text[a:b].strip("\n").split("\n")
        assert len([line for line in between if line]) < APART
    assert sample_pairs([TEXT], 5, 1) == sample_pairs([TEXT], 5, 1) != sample_pairs([TEXT], 5, 2)


def test_files_may_be_too_short():
    with pytest.raises(ValueError, match="no file has more than 11 lines"):
        sample_pairs(["x = 1\n"], 1, 0)

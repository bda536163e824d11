"""Secrets and addresses: found, replaced, and never at the price of a file that parses."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.corpus.scrub import PLACEHOLDER, parses, scrub

# put together here, so that this file holds no secret itself
SECRETS = {
    "cloud key": "AKIA" + "Q3EGRNLXT7PMWVCZ",
    "access token": "ghp_" + "a8Kd92LmQx7Zp0VtRb3Yc6Nw1Hs5Jf4GuEiO",
    "assigned secret": 'api_key = "' + "k9Xv2Qm7Lp4Zt8Rw1Ys6" + '"',
    "password in a URL": "postgres://admin:" + "h4rdT0guess" + "@db.internal/main",
    "web hook": "https://hooks.slack.com/services/" + "T0A1B2C3D/B9Z8Y7X6W/q1W2e3R4t5Y6u7I8o9P0",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7c2f9\nq3Zx8Lm0\n-----END RSA PRIVATE KEY-----",
    "e-mail address": "jane.doe+code@company.co.uk",
}


@pytest.mark.parametrize(("what", "secret"), SECRETS.items())
def test_each_kind_is_taken_out_of_strings_and_comments(what, secret):
    text = f"x = 1\ny = '''{secret}'''\n"
    scrubbed, counts = scrub(text)
    assert set(counts) == {what}
    value = secret.split('"')[1] if '"' in secret else secret
    assert value not in scrubbed
    assert parses(scrubbed)
    if "\n" not in secret:
        commented, counts = scrub(f"x = 1  # {secret}\n")
        assert set(counts) == {what}
        assert value not in commented


@pytest.mark.parametrize(
    "text",
    [
        "C = A@B.mean\n",
        "@pytest.mark.skip\ndef f(): ...\n",
        "MAIL = 'someone@example.com'\n",
        "URL = 'git@github.com:a/b.git'\n",
        "ICON = 'logo@2x.png'\n",
        "password = 'correct horse battery staple'\n",
        "token = 'TOKEN_NAME_OF_THE_THING'\n",
        "secret = 'xxxxxxxxxxxxxxxxxxxxxxxx'\n",
        "DATABASE = 'postgres://{user}:{password}@{host}/x'\n",
        "key = 'AKIAXXXXXXXXXXXXXXXX'\n",
        "sk_test_helper_of_this_module = 1\n",
    ],
)
def test_what_only_looks_like_one_stays(text):
    assert scrub(text) == (text, {})


def test_code_outside_of_strings_is_never_touched():
    text = f"{SECRETS['cloud key']} = a@company.io\n"
    assert scrub(text) == (text, {})


def test_a_secret_that_cannot_go_without_breaking_the_file_drops_it():
    text = f"x = '{SECRETS['cloud key']}'\n"
    assert scrub(text, check=lambda _: False) == (None, {"cloud key": 1})


def test_another_language_is_scrubbed_everywhere():
    scrubbed, counts = scrub(f"const key = {SECRETS['cloud key']} // jane@company.io", python=False)
    assert counts == {"cloud key": 1, "e-mail address": 1}
    assert PLACEHOLDER in scrubbed


pieces = st.sampled_from([*SECRETS.values(), "a@b.co", "'", '"', "'''", "#", "\\", "\n", "{", "}", "=", "f", "é𝒳", " "])
contexts = st.sampled_from(
    ["x = {!r}\n", "# {}\n", 'f("""{}""")\n', "x = f'''{}'''\n", "x = b'{}'\n", "{} = 1\n", "class C:\n    '''{}'''\n"]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(contexts, st.lists(pieces, max_size=4).map("".join)), max_size=5))
def test_whatever_parses_still_does_and_nothing_is_found_twice(parts):
    text = "".join(context.format(filling) for context, filling in parts)
    if not parses(text):
        return
    scrubbed, counts = scrub(text)
    if scrubbed is None:
        return
    assert parses(scrubbed)
    if not counts:
        assert scrubbed == text
    assert scrub(scrubbed)[0] == scrubbed


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from(string.printable + "é\u2028𝒳"), max_size=200))
def test_no_text_raises(text):
    scrub(text, python=False)
    scrub(text, python=parses(text))

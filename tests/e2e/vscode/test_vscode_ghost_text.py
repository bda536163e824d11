"""Ghost text: what is shown is what is taken, by the whole, the word and the line."""

from __future__ import annotations

import tasks


def type_key(window, place, ending="py"):
    """Open the place's file, which has the test's name, and type its key."""
    file = f"{window.name}.{ending}"
    window.write(file, place.before)
    window.show(file, place.line + 1, place.column + 1)
    window.type(place.key)


def saved(window, ending="py"):
    """The file as it lies on disk once it is saved."""
    window.save()
    return window.on_disk(f"{window.name}.{ending}").decode()


def test_tab_inserts_what_was_shown(window, plain):
    place = tasks.place(plain)
    type_key(window, place)
    shown = window.wait_ghost()
    window.shot("shown")
    assert shown == place.offers[0]
    window.press("Tab")
    window.wait_no_ghost()
    window.shot("taken")
    assert saved(window) == place.with_text(place.key + shown)


def test_the_first_key_while_everything_starts(start_server, open_window, plain):
    """No daemon runs, and nobody waits for the language server."""
    place = tasks.place(plain)
    window = open_window(start_server(), {"first.py": place.before})
    window.open("first.py", place.line + 1, place.column + 1)
    window.type(place.key)
    assert window.wait_ghost(seconds=60) == place.offers[0]
    window.shot("shown")


def test_escape_leaves_the_file(window, plain):
    place = tasks.place(plain)
    type_key(window, place)
    window.wait_ghost()
    window.press("Escape")
    window.wait_no_ghost()
    window.shot("gone")
    assert saved(window) == place.typed


def test_a_word_is_taken_and_the_rest_stays(window, plain):
    place = tasks.place(plain, fits=lambda offers: tasks.words(offers[0]) > 1)
    type_key(window, place)
    shown = window.wait_ghost()
    window.press("Control+ArrowRight")
    rest = window.wait_ghost(other_than=shown)
    window.shot("word")
    assert shown.endswith(rest)
    assert saved(window) == place.with_text(place.key + shown[: -len(rest)])


def test_a_line_is_taken_and_the_rest_stays(window, plain):
    place = tasks.place(plain, tasks.BLOCKS, lambda offers: "\n" in offers[0])
    type_key(window, place)
    shown = window.wait_ghost()
    window.shot("shown")
    line, _, more = shown.partition("\n")
    window.press("Control+Alt+l")
    assert window.wait_ghost(other_than=shown).strip("\n") == more
    window.shot("line")
    window.press("Escape")
    window.wait_no_ghost()
    assert saved(window).rstrip("\n") == place.with_text(place.key + line).rstrip("\n")


def test_typing_through(window, plain):
    place = tasks.place(plain, fits=lambda offers: len(offers[0]) > 4)
    type_key(window, place)
    shown = window.wait_ghost()
    for typed in range(1, 4):
        window.type(shown[typed - 1])
        assert window.wait_ghost(other_than=shown[typed - 1 :]) == shown[typed:]
    window.shot("through")
    window.press("Tab")
    window.wait_no_ghost()
    assert saved(window) == place.with_text(place.key + shown)


def test_alternatives_are_cycled(window, plain):
    place = tasks.place(plain, fits=lambda offers: len(offers) > 1, invoked=True)
    type_key(window, place)
    window.press("Escape")
    window.run("Trigger Inline Suggestion")
    first = window.wait_ghost()
    seen = [first]
    while len(seen) < len(place.offers):
        window.press("Alt+]")
        seen.append(window.wait_ghost(other_than=seen[-1]))
        window.shot("next")
    assert sorted(seen) == sorted(place.offers)
    window.press("Alt+[")
    taken = window.wait_ghost(other_than=seen[-1])
    assert taken == seen[-2]
    window.press("Tab")
    window.wait_no_ghost()
    assert saved(window) == place.with_text(place.key + taken)


def test_line_ends_stay_crlf(window, plain):
    place = tasks.place(plain, around=lambda text: text.replace("\n", "\r\n"))
    type_key(window, place)
    shown = window.wait_ghost()
    window.shot("crlf")
    window.press("Tab")
    window.wait_no_ghost()
    assert saved(window) == place.with_text(place.key + shown)
    assert "\r\n" in place.before


def test_a_large_file(window, plain):
    rows = "".join(f"value_{number} = {number * 7 % 1000}\n" for number in range(20_000))
    place = tasks.place(plain, around=lambda text: f"{rows}\n\n{text}\n\n{rows}")
    type_key(window, place)
    shown = window.wait_ghost()
    window.shot("large")
    window.press("Tab")
    window.wait_no_ghost()
    assert saved(window) == place.with_text(place.key + shown)


def test_a_file_in_another_language(window, plain):
    place = tasks.place(plain, tasks.SOURCES, language="c")
    type_key(window, place, "c")
    shown = window.wait_ghost()
    window.shot("c")
    assert shown == place.offers[0]
    window.press("Tab")
    window.wait_no_ghost()
    assert saved(window, "c") == place.with_text(place.key + shown)

"""How messages count."""

from ganrt.wording import count_things


def test_one_is_singular_and_all_else_plural() -> None:
    assert [count_things(number, "picture") for number in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]
    assert count_things(1, "entry", "entries") == "1 entry" and count_things(2, "entry", "entries") == "2 entries"
    assert count_things(1, "picture was", "pictures were") == "1 picture was"

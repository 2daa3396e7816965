"""In which order rows are met."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.training.order import in_training_order, in_turns


def numbered(name, count):
    return [{"id": f"{name}{number}"} for number in range(count)]


def names(rows):
    return [row["id"] for row in rows]


@given(size=st.integers(1, 7), count=st.integers(0, 40), seed=st.integers(0, 5))
def test_every_row_is_met_once_before_any_is_met_again(size, count, seed):
    met = Counter(names(in_training_order(numbered("r", size), count, seed)))
    assert met.total() == count
    assert {met[name] for name in names(numbered("r", size))} <= {count // size, -(-count // size)}


def test_later_passes_are_shuffled_again():
    met = names(in_training_order(numbered("r", 20), 40, seed=0))
    assert met[:20] != met[20:]


@given(steps=st.integers(0, 12), step_size=st.integers(1, 5), seed=st.integers(0, 5))
def test_a_step_has_one_kind_and_the_kinds_take_turns(steps, step_size, seed):
    kinds = {"a": numbered("a", 4), "b": numbered("b", 9)}
    met = names(in_turns(kinds, ["a", "a", "b"], steps, step_size, seed))
    assert "".join(name[0] for name in met) == "".join(
        "aab"[step % 3] * step_size for step in range(steps)
    )


def test_turns_of_one_kind_go_on_where_the_last_one_stopped():
    kinds = {"a": numbered("a", 6), "b": numbered("b", 3)}
    met = names(in_turns(kinds, ["a", "b"], 6, 2, seed=3))
    assert sorted(name for name in met if name[0] == "a") == names(kinds["a"])


def test_the_order_is_that_of_the_seed():
    rows = numbered("r", 30)
    assert in_training_order(rows, 30, 1) == in_training_order(rows, 30, 1)
    assert in_training_order(rows, 30, 1) != in_training_order(rows, 30, 2)


@given(small=st.integers(1, 5), large=st.integers(1, 30), seed=st.integers(0, 3))
def test_sources_are_met_in_equal_parts_whatever_their_size(small, large, seed):
    rows = [{**row, "source": "small"} for row in numbered("s", small)]
    rows += [{**row, "source": "large"} for row in numbered("l", large)]
    met = in_training_order(rows, 24, seed)
    assert Counter(row["id"][0] for row in met) == {"s": 12, "l": 12}
    assert all("source" not in row for row in met)

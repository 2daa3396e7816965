"""Find families of near-duplicate Python code, and split a data set without dividing a family.

Data sets grown from seeds hold the same function many times under other names. A random split
would put relatives on both sides, so that held-out tasks measure memory.
"""

import builtins
import hashlib
import io
import keyword
import tokenize
from collections.abc import Sequence

SIMILARITY = 0.5
"""Code of at least this Jaccard similarity is of one family, and so is what links to it."""
SHARES = {"train": 0.7, "validation": 0.1, "held_out": 0.2}
_RUN = 4
"""Tokens per shingle."""
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_BUILTINS = frozenset(dir(builtins))


def families_of(codes: Sequence[str]) -> list[int]:
    r"""Return for each code the place of the first code of its family.

    >>> families_of(["def f(a):\n    return a + 1", "x = {}", "def add(n):\n    return n + 1"])
    [0, 1, 0]
    """
    shingles = [_shingles(code) for code in codes]
    family = list(range(len(codes)))

    def first(place: int) -> int:
        while family[place] != place:
            place = family[place]
        return place

    for place, own in enumerate(shingles):
        for other in range(place):
            one, two = sorted((first(place), first(other)))
            if one != two and _are_similar(own, shingles[other]):
                family[two] = one
    return [first(place) for place in range(len(codes))]


def splits_of(families: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return a split for each member, the same for all of one family, near the wanted shares.

    Large families are placed first, each in the split that lacks most; `names` are the members'
    ids, and those of the first members decide the order of families of equal size.
    """
    sizes = {family: families.count(family) for family in dict.fromkeys(families)}
    lacking = {split: share * len(families) for split, share in SHARES.items()}
    chosen: dict[int, str] = {}
    order = sorted(sizes, key=lambda family: (-sizes[family], _digest(names[family])))
    for family in order:
        split = max(lacking, key=lambda name: lacking[name])
        chosen[family] = split
        lacking[split] -= sizes[family]
    return [chosen[family] for family in families]


def _are_similar(one: frozenset[int], other: frozenset[int]) -> bool:
    small, large = sorted((len(one), len(other)))
    if small < SIMILARITY * large:
        return False
    both = len(one & other)
    return both >= SIMILARITY * (small + large - both)


def _shingles(code: str) -> frozenset[int]:
    """Hashes of the runs of tokens, without names that the author chose, texts and comments."""
    tokens: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type not in _LAYOUT:
                tokens.append(_plain(token, after=tokens[-1] if tokens else ""))
    except (tokenize.TokenError, SyntaxError):  # code that ends too early, or is not Python
        pass
    runs = range(max(1, len(tokens) - _RUN + 1))
    return frozenset(hash(tuple(tokens[start : start + _RUN])) for start in runs)


def _plain(token: tokenize.TokenInfo, after: str) -> str:
    text = token.string
    is_own = token.type == tokenize.NAME and text not in _BUILTINS and not keyword.iskeyword(text)
    if is_own and after != ".":
        return "<name>"
    return "<text>" if token.type == tokenize.STRING else text


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()

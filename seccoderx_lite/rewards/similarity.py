"""Similarity of code to its reference: a fast CodeBLEU without data flow.

CodeBLEU (Ren et al., arXiv 2009.10297) is a weighted sum of four matches. SecCoderX's weights are
n-gram 0.1, keyword-weighted n-gram 0.1, syntax tree 0.7, data flow 0.1. Data flow is left out here:
it is the slowest part, it is 0 or undefined for code without assignments, and for C and C++ the
`codebleu` package computes it with the extractor for C#. The other weights are divided by their
sum, 0.9, so that the range stays [0, 1]. The three parts equal those of codebleu 0.7.0 (same
grammars) to 1e-9. `rewards.codebleu` has the exact four-part score.

It is fast because a grammar is loaded once, a reference is analysed once, and subtrees are compared
as slices of the text of the whole tree.
"""

import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import tree_sitter

from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import parse
from seccoderx_lite.rewards.comments import remove_comments

NGRAM_WEIGHT, KEYWORD_WEIGHT, TREE_WEIGHT = 0.1, 0.1, 0.7
"""SecCoderX's weights without the 0.1 for data flow; they are divided by their sum."""

MAX_N = 4
KEYWORD_TOKEN_WEIGHT, OTHER_TOKEN_WEIGHT = 1.0, 0.2
SMOOTHING = 0.1
"""Replaces a count of zero, as in method 1 of Chen and Cherry (2014)."""

_KEYWORD_LISTS: dict[Language, str] = {
    # The lists of codebleu 0.7.0, for equal scores. Some are incomplete: JavaScript lacks `async`.
    "python": (
        "False None True and as assert async await break case class continue def del elif else "
        "except finally for from global if import in is lambda match nonlocal not or pass raise "
        "return try type while with yield"
    ),
    "c": (
        "_Packed auto break case char const continue default do double else enum extern float for "
        "goto if int long register return short signed sizeof static struct switch typedef union "
        "unsigned void volatile while"
    ),
    "cpp": (
        "INT_MAX INT_MIN MAX_RAND NULL and and_eq asm auto bitand bool break case catch char cin "
        "class compl const const_cast continue default delete do double dynamic_cast else endl "
        "enum explicit extern false float for friend goto if include inline int iomanip iostream "
        "long main mutable namespace new not not_eq npos operator or or_eq private protected "
        "public register reinterpret_cast return short signed sizeof static static_cast std "
        "string struct switch template this throw true try typedef typeid typename union unsigned "
        "using virtual void volatile wchar_t while xor xor_eq"
    ),
    "java": (
        "abstract assert boolean break byte case catch char class const continue default do double "
        "else enum extends final finally float for goto if implements import instanceof int "
        "interface long native new package private protected public return short static strictfp "
        "super switch synchronized this throw throws transient try void volatile while"
    ),
    "javascript": (
        "True await break case catch class const continue debugger default delete do else enum "
        "export extends false finally for function if implements import in instanceof interface "
        "let new null package private protected public return static super switch this throw try "
        "typeof var void while with yield"
    ),
    "go": (
        "break case chan const continue default defer else fallthrough false for func go goto if "
        "import interface map package range return select struct switch true type var"
    ),
}
_KEYWORDS = {language: frozenset(words.split()) for language, words in _KEYWORD_LISTS.items()}


@dataclass(frozen=True, slots=True)
class SimilarityParts:
    """The three matches, each in [0, 1]."""

    ngram: float
    """BLEU-4 over words: precision of the code's n-grams, with a penalty for short code."""
    keyword_ngram: float
    """Recall of the reference's n-grams, single words weighted: a keyword 1, others 0.2."""
    tree: float
    """Share of the reference's subtrees, without names and values, that the code has too."""


def similarity(code: str, reference: str, language: Language) -> float:
    """Weighted mean of the three parts, in [0, 1]; 1 for code equal to its reference.

    Equal code scores 1 by definition: BLEU-4 would give less to code of fewer than four words.

    >>> similarity("def f(a): return a", "def f(a): return a", "python")
    1.0
    >>> round(similarity("def f(b): return b", "def f(a): return a", "python"), 3)
    0.8
    """
    if code.strip() == reference.strip():
        return 1.0
    parts = similarity_parts(code, reference, language)
    weighted_sum = (
        NGRAM_WEIGHT * parts.ngram + KEYWORD_WEIGHT * parts.keyword_ngram + TREE_WEIGHT * parts.tree
    )
    return weighted_sum / (NGRAM_WEIGHT + KEYWORD_WEIGHT + TREE_WEIGHT)


def similarity_parts(code: str, reference: str, language: Language) -> SimilarityParts:
    """The three matches as codebleu 0.7.0 computes them; words are separated by white space."""
    analysed = analyse_reference(reference.strip(), language)
    code = code.strip()
    tokens = code.split()
    matched, matched_weight = _match_ngrams(tokens, analysed)
    precisions: list[tuple[float, float]] = [(matched[n], len(tokens) - n) for n in range(MAX_N)]
    recalls: list[tuple[float, float]] = [(matched[n], analysed.n_tokens - n) for n in range(MAX_N)]
    recalls[0] = (matched_weight, analysed.total_weight)
    # codebleu's bug: it takes the length of the pair (tokens, weights), 2, for the reference's.
    keyword_brevity = _brevity_penalty(len(tokens), 2)
    return SimilarityParts(
        ngram=_brevity_penalty(len(tokens), analysed.n_tokens) * _geometric_mean(precisions),
        keyword_ngram=keyword_brevity * _geometric_mean(recalls),
        tree=_tree_match(code, analysed.subtree_counts, language),
    )


@dataclass(frozen=True, slots=True)
class AnalysedReference:
    """A reference, analysed once for all completions that are compared with it."""

    n_tokens: int
    token_numbers: dict[str, int]
    """From 1 in the order of first use; 0 is any other token."""
    weights: list[float]
    """Weight of each token, by its number."""
    total_weight: float
    ngrams: list[frozenset[int]]
    repeated_ngrams: list[dict[int, int]]
    """Those that occur more than once, with their counts."""
    subtree_counts: Counter[str]


@lru_cache(maxsize=256)
def analyse_reference(reference: str, language: Language) -> AnalysedReference:
    tokens = reference.split()
    token_numbers = {token: number for number, token in enumerate(dict.fromkeys(tokens), start=1)}
    weights = [0.0] + [
        KEYWORD_TOKEN_WEIGHT if token in _KEYWORDS[language] else OTHER_TOKEN_WEIGHT
        for token in token_numbers
    ]
    numbers = [token_numbers[token] for token in tokens]
    ngram_counts = [Counter(ngrams) for ngrams in _number_ngrams(numbers, len(weights))]
    root = parse(remove_comments(reference, language), language)
    return AnalysedReference(
        n_tokens=len(tokens),
        token_numbers=token_numbers,
        weights=weights,
        total_weight=sum(weights[number] for number in numbers),
        ngrams=[frozenset(counts) for counts in ngram_counts],
        repeated_ngrams=[
            {ngram: count for ngram, count in counts.items() if count > 1}
            for counts in ngram_counts
        ],
        subtree_counts=Counter(subtrees_of(root)),
    )


def _number_ngrams(tokens: list[int], base: int) -> list[list[int]]:
    """The n-grams for n from 1 to 4, each as one number with its tokens as digits.

    Numbers, because Python does not cache the hash of a tuple.
    """
    ngrams = [tokens]
    for n in range(1, MAX_N):
        ngrams.append(list(map(operator.add, map(base.__mul__, ngrams[-1]), tokens[n:])))
    return ngrams


def _match_ngrams(tokens: Sequence[str], analysed: AnalysedReference) -> tuple[list[int], float]:
    """For n from 1 to 4, how many n-grams the reference has too, and the weight of those for n = 1.

    Each n-gram counts at most as often as the reference has it.
    """
    number_of = analysed.token_numbers.get
    ngrams_by_n = _number_ngrams([number_of(token, 0) for token in tokens], len(analysed.weights))
    common_by_n = [
        wanted.intersection(ngrams)
        for ngrams, wanted in zip(ngrams_by_n, analysed.ngrams, strict=True)
    ]
    matched = [len(common) for common in common_by_n]
    matched_weight = sum(map(analysed.weights.__getitem__, common_by_n[0]))
    for n, repeated in enumerate(analysed.repeated_ngrams):
        found = [ngram for ngram in ngrams_by_n[n] if ngram in repeated]
        for ngram, count in Counter(found).items() if found else ():
            n_more = min(count, repeated[ngram]) - 1
            matched[n] += n_more
            matched_weight += 0.0 if n else n_more * analysed.weights[ngram]
    return matched, matched_weight


def _brevity_penalty(n_tokens: int, n_reference_tokens: int) -> float:
    if n_tokens == 0:
        return 0.0
    return min(1.0, math.exp(1 - n_reference_tokens / n_tokens))


def _geometric_mean(matched_and_total: Sequence[tuple[float, float]]) -> float:
    if matched_and_total[0][0] == 0:  # no word in common
        return 0.0
    logs = (
        math.log((matched or SMOOTHING) / max(1, total)) for matched, total in matched_and_total
    )
    return min(1.0, math.exp(math.fsum(logs) / len(matched_and_total)))  # 1.0 despite rounding


def _tree_match(code: str, reference_subtrees: Counter[str], language: Language) -> float:
    root = parse(remove_comments(code, language), language)
    common = reference_subtrees.keys() & subtrees_of(root)
    matched = sum(reference_subtrees[subtree] for subtree in common)
    return matched / reference_subtrees.total()


def subtrees_of(root: tree_sitter.Node) -> list[str]:
    """The root and each other inner node as an S-expression, as `str(node)` gives it.

    Calling `str` on each node takes time quadratic in the depth, so they are sliced from the text
    of the root. Only nodes without a named child, such as `pass`, look like leaves there.
    """
    subtrees = _nested_brackets(str(root))
    n_inner = 1
    cursor = root.walk()
    if not cursor.goto_first_child():
        return [str(root)]
    path = [True]  # of each open node, whether all its children are leaves
    while path:
        if cursor.goto_first_child():
            n_inner += 1
            path[-1] = False
            path.append(True)
            continue
        while path and not cursor.goto_next_sibling():
            cursor.goto_parent()
            node = cursor.node if path.pop() else None
            if node is not None and not node.named_child_count:
                subtrees.append(str(node))
    if n_inner == len(subtrees):
        return subtrees
    return subtrees_one_by_one(root)  # broken code: text and tree do not match


def _nested_brackets(text: str) -> list[str]:
    """Each bracketed part of the text that contains another one."""
    brackets = text
    for quoted in ('"("', '")"', '"()"', "'('", "')'"):  # what broken code lacks or has too much
        if quoted in text:
            brackets = brackets.replace(quoted, "-" * len(quoted))
    parts: list[str] = []
    starts: list[int] = []
    position = -1  # of the bracket before the segment
    for segment in brackets.split("("):
        if ")" not in segment:
            starts.append(position)
        elif "))" in segment:  # the first one closes the segment's own, which has none inside
            end = position + segment.index(")") + 2
            last_end = position + segment.rindex(")") + 2
            while end < last_end:
                end += 1
                parts.append(text[starts.pop() : end])
        position += len(segment) + 1
    return parts


def subtrees_one_by_one(root: tree_sitter.Node) -> list[str]:
    nodes = [root]
    for node in nodes:
        nodes.extend(child for child in node.children if child.child_count)
    return [str(node) for node in nodes]

"""From the tokens of a student's own chain of thought to estimates. Pure.

The span that counts is the thinking span of a model that has one, else the whole reply. The
answer's token is the first inside the last [[...]] after that span; the gold answer is never used.
Aggregates as in the paper's comparison of CoT entropies (our notes, section 3).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import ceil
from statistics import fmean

from caft.records import Chain
from caft.text.parsing import last_marker
from caft.text.thinking import find_spoken_marks

_ENDS_SENTENCE = re.compile(r"[.!?][\"')\]]*$")


def estimate_chain(chain: Chain) -> dict[str, float | None]:
    """Every cot_* estimate; entropies in nats. None if there are no tokens for it."""
    span = find_reasoning(chain.pieces, opened=chain.opened)
    entropies, margins = chain.entropies[span], chain.margins[span]
    answer = find_answer_token(chain.pieces, opened=chain.opened)
    sentences = [entropies[start:stop] for start, stop in split_sentences(chain.pieces[span])]
    return {
        "cot_answer_entropy": None if answer is None else chain.entropies[answer],
        "cot_answer_margin": None if answer is None else chain.margins[answer],
        "cot_mean_entropy": fmean(entropies) if entropies else None,
        "cot_max_entropy": max(entropies, default=None),
        "cot_top_entropy": fmean(largest_tenth(entropies)) if entropies else None,
        "cot_sum_entropy": sum(entropies) if entropies else None,
        "cot_sentence_mean_of_means": fmean(map(fmean, sentences)) if sentences else None,
        "cot_sentence_mean_of_max": fmean(map(max, sentences)) if sentences else None,
        "cot_margin": fmean(margins) if margins else None,
    }


def largest_tenth(values: Sequence[float]) -> list[float]:
    """The largest values, a tenth of them rounded up: at least one, if there is any."""
    return sorted(values, reverse=True)[: ceil(len(values) / 10)]


def find_reasoning(pieces: Sequence[str], *, opened: bool = False) -> slice:
    """The tokens that count: inside the thinking tags, or all where there are none.

    The prompt may have `opened` the span, and a reply may be cut before it closes.
    """
    text = "".join(pieces)
    marks = find_spoken_marks(text, "" if opened else None)
    begins = next((end for _, end, opens in marks if opens), None)
    ends = next((start for start, _, opens in marks if not opens), None)
    first = 0 if begins is None else _token_at(pieces, begins)
    return slice(first, len(pieces) if ends is None else _token_at(pieces, ends))


def find_answer_token(pieces: Sequence[str], *, opened: bool = False) -> int | None:
    """The place of the answer's first token; None if no [[...]] can be read.

    Text in a thinking span, which the prompt may have `opened`, is no answer; a reply whose last
    span is never closed has none.
    """
    marker = last_marker(_blank_thinking("".join(pieces), opened) or "")
    if marker is None or not marker.content.strip():
        return None
    blanks = len(marker.content) - len(marker.content.lstrip())
    return _token_at(pieces, marker.start + 2 + blanks)


def _blank_thinking(text: str, opened: bool) -> str | None:
    """What `drop_thinking` keeps, every character at its place in `text`."""
    kept, position = [], 0
    for start, end, opens in find_spoken_marks(text, "" if opened else None):
        if opens and not opened:
            kept.append(text[position:start] + " " * (end - start))
        elif opened:
            kept.append(" " * (end - position))
        else:
            kept = [" " * end]
        opened, position = opens, end
    return None if opened else "".join(kept) + text[position:]


def _token_at(pieces: Sequence[str], character: int) -> int:
    """The token that contains the character; past the last token, the number of tokens."""
    return bisect_right(list(accumulate(map(len, pieces))), character)


def split_sentences(pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Where sentences start and stop, in tokens; together they cover all of them.

    A sentence ends with a line break, or with . ! or ? where white space or nothing follows: the
    point in 3.5 ends none. White space alone belongs to the sentence before it, or to the first.
    """
    bounds: list[tuple[int, int]] = []
    start, sentence, last = 0, "", len(pieces) - 1
    for place, (piece, behind) in enumerate(zip(pieces, _characters_behind(pieces), strict=True)):
        sentence += piece
        words = sentence.rstrip()
        after = sentence[len(words) :] or behind
        ends = _ENDS_SENTENCE.search(words) and (not after or after[0].isspace())
        if not (ends or "\n" in piece or place == last):
            continue
        if words or (place == last and not bounds):
            bounds.append((start, place + 1))
        elif bounds:
            bounds[-1] = (bounds[-1][0], place + 1)
        else:
            continue
        start, sentence = place + 1, ""
    return bounds


def _characters_behind(pieces: Sequence[str]) -> list[str]:
    """The first character behind each piece; pieces of a character's first bytes have none."""
    behind = list(accumulate(reversed(pieces), lambda after, piece: piece[:1] or after, initial=""))
    return behind[-2::-1] if pieces else []

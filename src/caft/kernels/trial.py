"""Rows on which two ways of computing the same logits are tried, and how far apart they are.

Behind tokens that are hardly trained, rounding alone changes bfloat16 logits by a third of their
norm, whatever the kernel; behind most by a hundredth. The first tokens of a vocabulary are special
ones or bytes, so several rows of tokens from all over it are tried, and their median is judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from caft.protocols import CausalLM

ROWS = 5
_PREFIX, _OWN = 3, 2
_STEPS, _SMALLEST = 32, 1e-2
_WORDS = 64
"""Of a vocabulary whose size the config does not tell."""


@dataclass(frozen=True, slots=True)
class TrialRows:
    """`ROWS` rows of `own` tokens behind one `prefix`, and the token that is written behind each.

    `neighbours` are two sets of as many other rows.
    """

    prefix: tuple[int, ...]
    own: tuple[tuple[int, ...], ...]
    following: tuple[int, ...]
    neighbours: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def whole(self) -> list[list[int]]:
        """Every row with the prefix and what follows: [ROWS, tokens]."""
        return [
            [*self.prefix, *own, token] for own, token in zip(self.own, self.following, strict=True)
        ]


def draw_trial(model: CausalLM) -> TrialRows:
    """Tokens of the model's vocabulary, which may be of any size."""
    words = int(getattr(model.config.get_text_config(), "vocab_size", _WORDS))
    count = _PREFIX + ROWS * (3 * _OWN + 1)
    drawn = (words * place // (count + 1) for place in range(1, count + 1))
    prefix = tuple(next(drawn) for _ in range(_PREFIX))
    # Neighbours in the vocabulary are put into different rows.
    columns = [tuple(next(drawn) for _ in range(ROWS)) for _ in range(3 * _OWN + 1)]
    own, one, other = (
        tuple(zip(*columns[start : start + _OWN], strict=True)) for start in (0, _OWN, 2 * _OWN)
    )
    return TrialRows(prefix, own, columns[-1], (one, other))


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of logits [rows, ..., vocabulary] as a share of their norm, the median over the rows.

    The largest of those at several places of a row; not a number where logits are none.
    """
    found, expected = found.float(), expected.float()
    shares = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    return float(shares.median(dim=0).values.max())


def rounding(model: CausalLM, logits: torch.Tensor) -> float:
    """One step of the type that the model computes in, as a share."""
    return max(torch.finfo(each).eps for each in (model.dtype, logits.dtype))


def most_by_rounding(model: CausalLM, logits: torch.Tensor) -> float:
    """The distance that rounding may make between two ways of computing the same."""
    return max(_STEPS * rounding(model, logits), _SMALLEST)

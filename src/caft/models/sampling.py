"""Draws the next token: temperature, top-k, top-p and min-p, by a race of hashed noise.

The token with the largest logit plus Gumbel noise is a draw from the softmax of the logits. The
noise is a hash of seed, question, number of the sample, position and token, so that a reply does
not depend on what else is written, where, or when. See docs/decisions/0034-sampled-replies.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from caft.dials import CountOrNone, MinP, Temperature, TopP, check_dials, refuse_idle_filters
from caft.errors import first_line
from caft.kernels.memory import compiles_kernels

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
# The likeliest tokens that are looked at first for top-p; nearly always they are enough.
_HEAD = 512
# Numbers that the race works on at once: on a CPU they stay in its cache.
_AT_ONCE = {"cpu": 2**18}
_AT_ONCE_ELSEWHERE = 2**25
# Noise is made of 31 random bits, and of less than 1: a token whose noise rounds to infinity could
# never be drawn.
_STEP = 2.0**-31 * (1 - 2.0**-24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen: the likeliest one at temperature 0, else drawn.

    The filters are applied in transformers' order: temperature, `top_k` (0: none), `top_p`, the
    smallest set of the likeliest tokens with that mass, and `min_p`, a share of the likeliest
    token's probability. Tokens that are tied with the last one kept are kept.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn at all."""
        return self.temperature > 0

    @property
    def filters(self) -> bool:
        """Whether some tokens cannot be drawn."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0


GREEDY = Sampling()
"""The likeliest token, every time."""


@dataclass(kw_only=True, slots=True)
class SamplingConfig:
    """Temperature 0 takes the likeliest token; above it, tokens are drawn with the run's seed.

    Of the tokens only the `top_k` likeliest (0: all), then the likeliest with a mass of `top_p`,
    then those with at least `min_p` of the likeliest one's probability can be drawn.
    """

    place: ClassVar[str] = "evaluation.sampling"

    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    top_k: CountOrNone = 0
    min_p: MinP = 0.0

    def __post_init__(self) -> None:
        check_dials(self, self.place)
        if not self.temperature:
            refuse_idle_filters(self.place, top_p=self.top_p, top_k=self.top_k, min_p=self.min_p)

    def seeded(self, seed: int) -> Sampling:
        """These settings with the run's seed; a subclass has others beside them."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=seed,
        )


class Draw(NamedTuple):
    """What the noise of one token depends on: the question, its sample, and the token's place."""

    question: str
    sample: int
    position: int


def draw_tokens(logits: torch.Tensor, sampling: Sampling, draws: Sequence[Draw]) -> torch.Tensor:
    """A token [rows] for every row of finite logits [rows, vocabulary]."""
    import torch

    keys = _hash_draws(sampling.seed, draws).to(logits.device)
    most = _AT_ONCE.get(logits.device.type, _AT_ONCE_ELSEWHERE)
    rows = max(1, most // logits.shape[-1])
    return torch.cat(
        [
            _run_race(logits[first : first + rows], sampling, keys[first : first + rows])
            for first in range(0, len(logits), rows)
        ]
    )


def _run_race(logits: torch.Tensor, sampling: Sampling, keys: torch.Tensor) -> torch.Tensor:
    if _compiles_race(logits.device):
        from caft.kernels.drawing import run_race

        if sampling.filters:
            return run_race(truncate(logits, sampling), 1.0, keys, _STEP)
        return run_race(logits, 1 / sampling.temperature, keys, _STEP)
    return (truncate(logits, sampling) + gumbel_noise(keys, logits.shape[-1])).argmax(dim=-1)


@cache
def _compiles_race(device: torch.device) -> bool:
    """Whether the race is one kernel on `device`, which is tried: Triton needs a C compiler."""
    import torch

    if not compiles_kernels(device.type):
        return False
    from caft.kernels.drawing import run_race

    try:
        zeros = torch.zeros(1, 2, device=device)
        run_race(zeros, 1.0, zeros.int(), _STEP)
    except Exception as error:  # Triton has many
        log.info("tokens are drawn without a kernel of our own, more slowly: %s", first_line(error))
        return False
    return True


def truncate(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Logits over the temperature; -inf for tokens that cannot be drawn."""
    import torch

    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)) / sampling.temperature
    size = scores.shape[-1]
    if 0 < sampling.top_k < size:
        scores = _keep(scores, scores.topk(sampling.top_k, dim=-1).values[:, -1:])
    if sampling.top_p < 1:
        scores = _keep(scores, _find_nucleus(scores, sampling.top_p))
    if sampling.min_p:
        scores = _keep(scores, scores.amax(dim=-1, keepdim=True) + math.log(sampling.min_p))
    return scores


def _keep(scores: torch.Tensor, lowest: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(scores < lowest, -math.inf)


def _find_nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """The lowest score [rows, 1] of the smallest set of likeliest tokens with a mass of `top_p`."""
    import torch

    # Apple's devices have no float64.
    exact = torch.float32 if scores.device.type == "mps" else torch.float64
    total = scores.logsumexp(dim=-1, keepdim=True).to(exact)
    size = min(_HEAD, scores.shape[-1])
    while True:
        highest = scores.topk(size, dim=-1).values
        shares = (highest.to(exact) - total).exp()
        mass = shares.cumsum(dim=-1)
        if size == scores.shape[-1] or bool((mass[:, -1] >= top_p).all()):
            break
        size = min(16 * size, scores.shape[-1])
    kept = (mass - shares < top_p).sum(dim=-1, keepdim=True)
    # Logits that are no numbers have no mass, and are refused once they are read.
    return highest.gather(-1, (kept - 1).clamp_min(0))


def _hash_draws(seed: int, draws: Sequence[Draw]) -> torch.Tensor:
    """Two integers a draw, [rows, 2] in int32."""
    import torch

    digests = b"".join(
        # The question's id may hold any character: it comes last.
        blake2b(
            f"{seed}/{sample}/{position}/{question}".encode("utf-8", "surrogatepass"),
            digest_size=8,
        ).digest()
        for question, sample, position in draws
    )
    return torch.frombuffer(bytearray(digests), dtype=torch.int32).view(-1, 2)


def gumbel_noise(keys: torch.Tensor, size: int) -> torch.Tensor:
    """Independent Gumbel numbers [rows, size] in float32 of keys [rows, 2] in int32.

    The same numbers on every device, up to the rounding of the logarithms.
    """
    import torch

    tokens = torch.arange(size, dtype=torch.int32, device=keys.device)
    bits = _mix(_mix(tokens ^ keys[:, :1]) + keys[:, 1:])
    # Halves between two of 2^31 steps. Small ones, which win the race, are exact.
    shares = (bits & 0x7FFFFFFF).float().add_(0.5).mul_(_STEP)
    return shares.neg_().log1p_().neg_().log_().neg_()


def _mix(bits: torch.Tensor) -> torch.Tensor:
    """A hash of 32 bits, in place: `lowbias32` of Wellons' hash-prospector."""
    # The masks make a shift of signed numbers one of unsigned ones.
    bits ^= (bits >> 16) & 0xFFFF
    bits *= 0x7FEB352D
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= 0x846CA68B - 2**32
    bits ^= (bits >> 16) & 0xFFFF
    return bits

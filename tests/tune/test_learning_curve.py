"""Best epoch and patience, by hand; and the one-line reasons to stop."""

from __future__ import annotations

import pytest

from caft.errors import UserError
from caft.kernels.memory import is_out_of_memory
from caft.tune.config import Adapter, Select, TuningConfig
from caft.tune.error_text import explain_memory
from caft.tune.learning_curve import accuracies, best_epoch, is_out_of_patience, questions_asked


def curve(*measured: float) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for epoch, value in enumerate(measured, start=1):
        rows.append({"step": 2 * epoch - 1, "epoch": epoch, "loss": 1.0})
        rows.append(
            {
                "step": 2 * epoch,
                "epoch": epoch,
                "validation_accuracy": value,
                "validation_questions": 8,
            }
        )
    return rows


def test_the_first_of_equally_good_epochs_is_the_best():
    assert accuracies(curve(0.25, 0.5, 0.5)) == [0.25, 0.5, 0.5]
    assert best_epoch(curve(0.25, 0.5, 0.5, 0.375)) == 2
    assert best_epoch([{"step": 1, "epoch": 1, "loss": 1.0}]) is None
    assert (questions_asked(curve(0.5)), questions_asked([])) == (8, 0)


@pytest.mark.parametrize(
    ("measured", "patience", "over"),
    [
        ((0.5,), 1, False),
        ((0.5, 0.5), 1, True),
        ((0.5, 0.4), 2, False),
        ((0.5, 0.4, 0.5), 2, True),
        ((0.5, 0.4, 0.6), 2, False),
        ((0.5, 0.1, 0.1, 0.1), None, False),
        ((), 1, False),
    ],
)
def test_patience_counts_epochs_since_the_best(measured, patience, over):
    assert is_out_of_patience(curve(*measured), patience) is over


@pytest.mark.parametrize("dials", [{"patience": 2}, {"select": Select.best}])
def test_choosing_by_accuracy_needs_validation(dials):
    with pytest.raises(UserError, match=r"tuning\.validate=true"):
        TuningConfig(validate=False, **dials)


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", True),
        ("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory", True),
        ("MPS backend out of memory", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_every_device_has_its_own_words_for_full(words, out):
    assert is_out_of_memory(RuntimeError(words)) is out


def test_out_of_memory_names_the_setting_that_is_too_large():
    text = explain_memory(TuningConfig(), 500, 3, 9, device="cpu")
    assert "lower tuning.batch_tokens (now 2048)" in text
    full = TuningConfig(adapter=Adapter.full, batch_tokens=512)
    text = explain_memory(full, 700, 3, 9, device="cuda")
    assert text.startswith("out of memory at step 3 of 9")
    assert "lower tuning.max_length, since one row alone has 700 tokens" in text
    assert "use tuning=lora" in text

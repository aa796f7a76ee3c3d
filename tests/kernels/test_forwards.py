"""Which modules get another `forward`."""

from __future__ import annotations

import torch

from caft.kernels.forwards import replace_forwards


class Shifted(torch.nn.Linear):
    """Of the same form, and it computes something else."""


def test_modules_of_the_form_and_of_a_class_that_was_tried_once_are_changed() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 2), Shifted(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2), Shifted(2, 2)
    )
    tried: list[torch.nn.Module] = []

    def is_plain(module: torch.nn.Module) -> bool:
        tried.append(module)
        return type(module) is torch.nn.Linear

    def make(module: torch.nn.Linear) -> torch.nn.Identity:
        return torch.nn.Identity(module.in_features)

    replace_forwards(model, lambda module: hasattr(module, "in_features"), is_plain, make)
    assert tried == [model[0], model[1]]
    changed = ["forward" in vars(module) for module in model.modules()]
    assert changed == [False, True, False, False, True, False]  # the model itself is the first

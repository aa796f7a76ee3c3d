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


class Limited(torch.nn.Module):
    """A part of a layer whose limit some layers have and others have not."""

    def __init__(self, limit: float | None, activation: torch.nn.Module) -> None:
        super().__init__()
        self.limit, self.activation = limit, activation


def test_modules_of_one_class_with_other_settings_are_tried_by_themselves() -> None:
    relu, leaky = torch.nn.ReLU(), torch.nn.LeakyReLU(0.5)
    model = torch.nn.Sequential(
        Limited(None, relu), Limited(0.5, relu), Limited(None, leaky), Limited(None, relu)
    )
    replace_forwards(
        model,
        lambda module: isinstance(module, Limited),
        lambda module: module.limit is None and module.activation is relu,
        lambda module: module.activation,
    )
    assert ["forward" in vars(module) for module in model] == [True, False, False, True]

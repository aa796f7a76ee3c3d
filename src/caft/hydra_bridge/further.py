"""The data sets of `evaluation.also`, each composed and checked as `dataset=` would be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from caft.data.further import naming_further
from caft.dials import shown
from caft.errors import UserError, did_you_mean
from caft.hydra_bridge.deprecated import refuse_former_kind
from caft.hydra_bridge.error_text import explain
from caft.hydra_bridge.overrides import create_resolved
from caft.run_config import KINDS

_FORM = "a name, or a table as in {dataset: local, name: mine, test_path: FILE}"


def expand_further(config: DictConfig) -> list[dict[str, object]]:
    """All settings of every set, which also take the place of the entries in `config`.

    UserError for an unknown name or setting, of which it names the entry.
    """
    entries = OmegaConf.select(config, "evaluation.also")
    if not entries:
        return []
    tables = [*_expand(OmegaConf.to_container(entries, resolve=True))]
    config.evaluation.also = create_resolved({"also": tables}).also
    return tables


def _expand(entries: Any) -> Iterator[dict[str, object]]:
    for place, entry in enumerate(entries):
        table = {"dataset": entry} if isinstance(entry, str) else entry
        if not isinstance(table, Mapping) or len({"dataset", "kind"} & {*table}) != 1:
            raise UserError(f"evaluation.also.{place} is {entry}; give {_FORM}")
        with naming_further(str(table.get("name") or table.get("dataset") or place)):
            try:
                (typed,) = type_further([table if "kind" in table else _compose(table)])
                # Its own rules are applied here, where the error can name the entry.
                OmegaConf.to_object(typed)
            except OmegaConfBaseException as error:
                raise UserError(explain(error)) from error
        whole: Any = OmegaConf.to_container(typed, resolve=True, enum_to_str=True)
        yield whole


def _compose(table: Mapping[str, object]) -> dict[str, object]:
    """The settings of the data set that the table names, and its own in their place."""
    name, loader = str(table["dataset"]), GlobalHydra.instance().config_loader()
    names = loader.get_group_options("dataset", ObjectType.CONFIG)
    if name not in names:
        hint = did_you_mean(name, names)
        raise UserError(f"no such data set; there are {', '.join(names)}; or give {_FORM}{hint}")
    found: Any = loader.load_configuration(f"dataset/{name}", [], RunMode.RUN).dataset
    own = {key: value for key, value in table.items() if key != "dataset"}
    values = OmegaConf.to_container(found, resolve=True)
    whole: Any = OmegaConf.to_container(
        OmegaConf.merge(create_resolved(values), create_resolved(own)), resolve=True
    )
    return {str(key): value for key, value in whole.items()}


def type_further(tables: Sequence[Mapping[str, object]]) -> Iterator[DictConfig]:
    """The typed config of each whole table, such as `expand_further` leaves."""
    for table in tables:
        kinds, kind = KINDS["dataset"], table.get("kind")
        refuse_former_kind("dataset", kind)
        if str(kind) not in kinds:
            raise UserError(f"kind is {shown(kind)!r}; give one of {', '.join(kinds)}")
        schema = OmegaConf.create({"dataset": OmegaConf.structured(kinds[str(kind)])})
        typed: Any = OmegaConf.merge(schema, create_resolved({"dataset": table})).dataset
        yield typed

"""From the config to the engine of one student."""

from __future__ import annotations

import os

from caft.engines.config import EngineConfig, InProcessEngineConfig, ServerEngineConfig
from caft.engines.in_process import SglangEngine, VllmEngine, check_installed
from caft.engines.replies import Engine
from caft.engines.server import ServerEngine
from caft.errors import UserError
from caft.models.student import Student
from caft.teachers.api_key import check_address, read_key

SOURCES = ("engines", "teachers/served.py")
"""What an engine's replies depend on besides the sources of our own."""


def open_engine(config: EngineConfig, student: Student) -> Engine | None:
    """What writes the student's replies; None for our own generator. Nothing is started."""
    match config:
        case ServerEngineConfig():
            return ServerEngine(config, student)
        case InProcessEngineConfig(kind="vllm"):
            return VllmEngine(config, student)
        case InProcessEngineConfig():
            return SglangEngine(config, student)
    return None


def check_engine(config: EngineConfig, *, starts: bool = True) -> None:
    """UserError for an engine that cannot work here, before anything is loaded or sent.

    Unless it `starts`, it needs no package, no device and no key, which is enough for a dry run.
    """
    if isinstance(config, InProcessEngineConfig) and starts:
        check_installed(config.kind)
    if isinstance(config, ServerEngineConfig):
        if not config.base_url:
            raise UserError(
                "engine.base_url is not set; give the server's address, such as "
                "http://127.0.0.1:8000/v1"
            )
        if not config.model:
            raise UserError(
                "engine.model is not set; give the name that the server has for the base model"
            )
        check_address(config.address)
        if starts:
            read_key(config.address, os.environ)

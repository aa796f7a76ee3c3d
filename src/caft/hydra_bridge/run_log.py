"""run.log, on a disk that may be full: one line says so, and the run goes on without it."""

from __future__ import annotations

import logging
import sys

from caft.signals import say


class RunLog(logging.FileHandler):
    """The file handler that conf/hydra/job_logging names."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Instead of logging's own, which prints a traceback a line that is lost."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            say(f"{self.baseFilename} is incomplete: {error.strerror}; make room there")

"""What a sweep's jobs would refuse by their data or their teacher, before the first one starts."""

from __future__ import annotations

import logging
from dataclasses import replace

from caft.data import NotHereError, QuestionSplits
from caft.pipeline.preflight import open_workspace
from caft.run_config import RunConfig, RunContext


def refuse_beforehand(
    config: RunConfig, context: RunContext, questions: QuestionSplits | None = None
) -> QuestionSplits | None:
    """UserError for what a run would refuse by its data or its teacher; fetches and warns nothing.

    Prices and keys are asked for first, since they need no question. Questions that are not on this
    machine are checked by the job that downloads them. Others are returned, and may be given for
    the next run of the same dataset: reading them takes longest.
    """
    logging.disable(logging.WARNING)  # each job gives its own
    try:
        shown = replace(config, dry_run=True)
        return open_workspace(shown, context, questions, pays=True).questions
    except NotHereError:
        return None
    finally:
        logging.disable(logging.NOTSET)

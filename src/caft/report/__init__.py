"""Everything that a person reads: pages, terminal screen, model card, sweep report.

In: a run's summary (schema 1, see `schema.py`) and its rows (`ReportTables`). Out: one
self-contained HTML page as text, and one screen in the terminal. A summary without the keys of the
schema is a bug of ours; parts that a run did not reach are None and do not appear.

`run` has the page, the terminal's screen and the model card of one run, and what summary.json
says of scores, accuracy and cost; `sweep` is the report of all jobs of a sweep; `figures` are what
both draw; `predictions` judges tables of other tools. Reports are written by `sweep.folder` alone.
This package imports none of them, because the room's config is read before heavy packages such as
numpy may be imported.
"""

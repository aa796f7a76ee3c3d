"""Room `report`: what a person gets to read.

In: a run's summary (schema 1, see `schema.py`) and the rows behind it (`ReportTables`).
Out: one self-contained HTML page as text, and one screen in the terminal. What can go wrong: a
summary without the keys of the schema is our own fault; parts that a run did not reach are None
and simply do not appear.

`run` has the page, the terminal's screen and the model card of one run, and what summary.json
says of scores, accuracy and cost; `sweep` is the report of all jobs of a sweep; `figures` are what
both draw. Only `run.finished` and `sweep.folder` read files of runs, and only the latter writes.
The front door imports none of them: the config of this room is read before anything as heavy as
numpy may be imported.
"""

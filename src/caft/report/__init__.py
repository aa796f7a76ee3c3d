"""Room `report`: what a person gets to read.

In: a run's summary (schema 1, see `schema.py`) and the rows behind it (`ReportTables`).
Out: one self-contained HTML page as text, and one screen in the terminal. What can go wrong: a
summary without the keys of the schema is our own fault; parts that a run did not reach are None
and simply do not appear.

The functions stand in `html` (render_report), `terminal` (print_summary), `comparison`
(compare_models), `schema` (check_summary), `cost` and `score_part`; `sweep` is the report of all
jobs of a sweep, and `wandb_report` saves it to Weights & Biases. Only `finished` and
`sweep.folder` read files of runs, and only the latter writes. The front door imports none of
them: the config of this room is read before anything as heavy as numpy may be imported.
"""

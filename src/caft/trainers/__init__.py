"""The door to Lightning: where work runs, how it shows progress, where metrics go.

Three rooms drive Lightning and never import each other; what they share about it stands here:
`build` (a Trainer from its config), `progress` (bars that count questions), `loggers`,
`predicting` (a stage's predictions on one device or several, resumed after a kill) and
`replies` (the module that lets a student write). Importing this front door imports none of it, so
that a wrong config is answered at once.
See docs/decisions/0001-trainers.md.
"""

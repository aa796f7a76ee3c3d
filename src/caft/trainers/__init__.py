"""Work with Lightning: where it runs, how it shows progress, where metrics go.

Three rooms use Lightning and never import each other; this package has what they share: `build` (a
Trainer from its config), `progress` (bars that count questions), `loggers`, `predicting` (a stage's
predictions on one device or several, resumed after a kill) and `replies` (the module that generates
replies). Importing this package imports none of them, so that a wrong config is reported at once.
See docs/decisions/0001-trainers.md.
"""

"""One run's report: page, terminal, model card, and their rows."""

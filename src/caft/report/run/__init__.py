"""One run's report: page, terminal, model card, and the rows behind them."""

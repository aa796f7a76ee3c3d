"""The sources of models: the hub, the embedded model, generated tiny models, a folder."""

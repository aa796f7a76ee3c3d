"""Where models come from: the hub, the embedded one, tiny ones made here, a folder."""

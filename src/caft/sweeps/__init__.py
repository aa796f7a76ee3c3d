"""A sweep's jobs: the table of how each one stands, run folders, and who gets which device."""

"""A sweep's jobs: the table of their states, run folders, and which job gets which device."""

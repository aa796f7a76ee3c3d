"""What holds for every test process."""

from __future__ import annotations

import signal

# A shell starts background jobs with SIGINT ignored, and every child inherits that: a command
# under test would then, rightly, not hear its Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

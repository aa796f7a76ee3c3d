"""What both fakes know: a reply by prompt, as a greedy model would write it, and what they got."""

SCRIPT: dict[tuple[int, ...], list[int]] = {}
LOADED: list[dict] = []
CALLS: list[dict] = []
DECODE: list = []
STOPPED: list[str] = []
WRITERS: list = []
"""Writes where there is no script: (ids, limit, stop_ids) to tokens."""


def go_on(ids, limit, stop_ids, stops):
    """The next tokens, and what ended them: the limit, a token, or a text."""
    if WRITERS:
        written = WRITERS[0](ids, limit, stop_ids)
        return written, written[-1] if written[-1] in stop_ids else None
    prompt = next(each for each in SCRIPT if tuple(ids[: len(each)]) == each)
    start = len(ids) - len(prompt)
    assert SCRIPT[prompt][:start] == list(ids[len(prompt) :]), "it was given other tokens"
    written: list[int] = []
    for token in SCRIPT[prompt][start:]:
        written.append(token)
        if token in stop_ids:
            return written, token
        text = DECODE[0](written)
        if found := next((stop for stop in stops if stop in text), None):
            return written, found
        if len(written) == limit:
            break
    return written, None

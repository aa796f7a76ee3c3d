"""Lines of text that carry a checksum: what a disk or a hand made of them is recognised."""

from __future__ import annotations

import zlib


def sign_line(text: str) -> str:
    """`text` (one line) behind 8 hexadecimal digits of its CRC-32."""
    return f"{_checksum(text.encode())} {text}"


def read_line(line: bytes) -> str | None:
    """What `sign_line` was given, or None where the line is another one."""
    checksum, _, content = line.partition(b" ")
    return content.decode() if checksum == _checksum(content).encode() else None


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"

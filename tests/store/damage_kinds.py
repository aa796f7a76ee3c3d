"""What disks, hands and interrupted tools do to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from caft.store.disk import remove


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    flip_bit(path, path.stat().st_size * 4)


def flip_bit(path: Path, number: int) -> None:
    content = bytearray(path.read_bytes())
    content[number // 8] ^= 1 << number % 8
    path.write_bytes(content)


def become_folder(path: Path) -> None:
    remove(path)
    path.mkdir()
    (path / "inside").write_text("what a tool put here")


def link_to_nowhere(path: Path) -> None:
    remove(path)
    path.symlink_to(path.parent / "nowhere")


def scribble(path: Path) -> None:
    path.write_bytes(b"\x00\xff garbage {")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "empty": empty,
    "missing": remove,
    "flipped": flip,
    "folder": become_folder,
    "link": link_to_nowhere,
    "garbage": scribble,
}

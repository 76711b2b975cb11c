"""Work folders of runs that were killed before they could remove them."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def remove_leftovers(prefix: str, folder: Path) -> list[Path]:
    """Remove the directories in ``folder`` that are named ``prefix``... and belong to this user; returns which.

    Call it with the run lock held and before making a work folder of one's own: any found then is nobody's.
    Files, symbolic links and other users' folders stay. What cannot be removed is left to the next run: never raises.
    """
    removed: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and _is_own_directory(entry):
                shutil.rmtree(entry.path, ignore_errors=True)
                if not os.path.lexists(entry.path):
                    removed.append(Path(entry.path))
    return sorted(removed)


def _is_own_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except FileNotFoundError:
        return False

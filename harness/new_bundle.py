"""Writing a bundle: all of it or nothing, and never over another one unasked.

A bundle grows in a hidden folder beside its final place and is renamed when it is finished. Folders that
a killed process left behind are recognised by the process in their name, and cleared by the next export.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from ..errors import BuildError, UsageError
from .bundle import MANIFEST, relative_files

_NEW, _OLD = ".tmp-", ".old-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_LONGEST_NAME = 160  # file systems take 255 bytes, and the hidden folder's name is longer than the bundle's


def folder_name(title: str) -> str:
    """Give the folder of a bundle: its title with everything that is not safe in a file name as ``-``."""
    return re.sub(r"[^A-Za-z0-9._@+-]", "-", title).lstrip(".-") or "-"


def check_free(out: Path, title: str, *, overwrite: bool) -> Path:
    """Refuse early, before any work, when the bundle could not be put into its place later.

    Args:
        out: Folder that holds bundles; made when it is finished.
        title: ``MODEL@DEVICE-PRECISION``.
        overwrite: True allows an existing bundle of that title to be replaced.

    Returns:
        The final folder of the bundle.

    Raises:
        UsageError: If ``out`` cannot be written, or something else is in the way.
    """
    standing = next(p for p in (out, *out.absolute().parents) if p.exists() or p.is_symlink())
    if not standing.is_dir():
        raise UsageError(
            f"expected a folder for bundles at {out}, got a file at {standing}; name another with -o"
        )
    if not os.access(standing, os.W_OK | os.X_OK):
        raise UsageError(f"expected a writable folder, got {standing}, which is not; name another with -o")
    final = out / folder_name(title)
    if len(final.name) > _LONGEST_NAME:
        raise UsageError(f"expected a bundle name of at most {_LONGEST_NAME} characters, got {final.name!r}")
    if not (final.exists() or final.is_symlink()):
        return final
    if final.is_symlink() or not (final / MANIFEST).is_file():
        raise UsageError(
            f"expected a free place for the bundle, got {final}, which is no bundle; move it away"
        )
    if not overwrite:
        raise UsageError(
            f"expected no bundle at {final}, got one; use --overwrite to replace it, or another -o"
        )
    return final


@contextmanager
def new_bundle(out: Path, title: str, *, overwrite: bool = False) -> Generator[Path]:
    """Make a bundle: yield a temporary folder to fill, which takes its final place when the block ends well.

    On any exception, also an interruption or a termination, the temporary folder is removed and an older
    bundle stays as it was.

    Args:
        out: Folder that holds bundles.
        title: ``MODEL@DEVICE-PRECISION``.
        overwrite: True allows an existing bundle of that title to be replaced.

    Raises:
        UsageError: See ``check_free``.
        BuildError: If there is no space left, or the file system refuses a write.
    """
    final = check_free(out, title, overwrite=overwrite)
    with _one_sentence(out), _termination_interrupts():
        out.mkdir(parents=True, exist_ok=True)
        clear_leftovers(out)
        check_free(out, title, overwrite=overwrite)  # a killed replacement may just have been undone
        with _finished(final, overwrite=overwrite) as temporary:
            yield temporary


@contextmanager
def replacing(final: Path) -> Generator[Path]:
    """Make a new version of an existing bundle: the same promise as `new_bundle`, for a known folder."""
    with (
        _one_sentence(final.parent),
        _termination_interrupts(),
        _finished(final, overwrite=True) as folder,
    ):
        yield folder


def clear_leftovers(out: Path) -> None:
    """Remove what killed processes left in ``out``, and undo a replacement that one of them had begun."""
    for folder in (*out.glob(f"{_NEW}*"), *out.glob(f"{_OLD}*")):
        kind, name = folder.name[: len(_NEW)], _title_if_dead(folder)
        if name is None:
            continue
        if kind == _OLD and not (out / name).exists():
            folder.rename(out / name)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _finished(final: Path, *, overwrite: bool) -> Generator[Path]:
    temporary = _beside(final, _NEW)
    try:
        yield temporary
        _sync(temporary)
        _into_place(temporary, final, overwrite=overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(final: Path, prefix: str) -> Path:
    """Make an empty hidden folder whose name says who made it, and for what."""
    owner = f"{socket.gethostname()},{os.getpid()},{secrets.token_hex(4)}"
    made = final.with_name(f"{prefix}{final.name},{owner}")
    made.mkdir()
    return made


def _title_if_dead(folder: Path) -> str | None:
    """Give the folder name of the bundle that a leftover was for; None while its process may still live."""
    parts = folder.name[len(_NEW) :].split(",")
    if len(parts) != 4 or parts[1] != socket.gethostname() or not parts[2].isdecimal():
        return None
    try:
        # A process that began after the last write to the folder only has the number of the one that made it.
        alive = psutil.Process(int(parts[2])).create_time() <= folder.stat().st_mtime
    except psutil.NoSuchProcess:
        alive = False
    except (psutil.Error, OSError):
        return None
    return None if alive else parts[0]


def _into_place(temporary: Path, final: Path, *, overwrite: bool) -> None:
    """Rename the finished folder; an older one is removed only when the new one is in its place."""
    if not (overwrite and final.exists()):
        try:
            temporary.rename(final)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise UsageError(
                    f"expected no bundle at {final}, got one made meanwhile; use --overwrite"
                ) from error
            raise
        _sync_folder(final.parent)
        return
    old = _beside(final, _OLD)
    try:
        final.rename(old)  # takes the place of the empty folder
        temporary.rename(final)
    except BaseException:
        if not final.exists():
            old.rename(final)
        raise
    finally:
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
    _sync_folder(final.parent)


@contextmanager
def _termination_interrupts() -> Generator[None]:
    """Let a termination unwind like Ctrl-C, so that nothing half-made stays."""
    free = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not free or threading.current_thread() is not threading.main_thread():
        yield  # the caller has a handler of its own, or may not set one
        return

    def interrupt(number: int, frame: FrameType | None) -> Any:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _one_sentence(out: Path) -> Generator[None]:
    """Turn a full disk or a refused write into one sentence; other system errors pass."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename) if isinstance(error.filename, str) else out
        if error.errno in _FULL:
            raise BuildError(
                f"expected space to write {where}, got a full disk; free some, or use -o"
            ) from error
        if error.errno in _REFUSED and where.absolute().is_relative_to(out.absolute()):
            raise UsageError(
                f"expected to write {where}, got {error.strerror}; name another with -o"
            ) from error
        raise


def _sync(folder: Path) -> None:
    """Put every file on the disk before the rename says that the bundle is whole."""
    for name in relative_files(folder):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    for path in (*(p for p in folder.rglob("*") if p.is_dir()), folder):
        _sync_folder(path)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

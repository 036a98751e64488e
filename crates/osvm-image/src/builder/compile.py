"""Compiles Python's files without running them, and so that their times don't matter."""

import compileall
import contextlib
import py_compile


def compile_all(folder):
    say(f"compiling {folder}")
    # Templates that are no Python are among the files of many packages: they stay as they are.
    with contextlib.redirect_stdout(io.StringIO()):
        compileall.compile_dir(
            folder,
            maxlevels=64,
            quiet=2,
            workers=os.cpu_count() or 1,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )

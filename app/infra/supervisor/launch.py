"""The few steps between fork and exec that a part needs, run as a script of its own.

`python -I -S launch.py DEATH_SIGNAL PARENT DIRECTORY UID GID PROGRAM [ARGUMENT...]`

A separate program rather than a `preexec_fn`, since the supervisor has threads and Python code
between fork and exec may then deadlock. It imports nothing of Secondlook, so it costs about 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
# Where a part with an account of its own finds its directory: a path that leads through an open
# file asks no permission of the directories above, so it need not be able to enter, say, /root.
OPEN_DIRECTORY = "/proc/self/fd/3"


def main(arguments: list[str]) -> None:
    """Enter the directory, change the account, tie this life to the parent's, become the program.

    With an account (UID and GID are not `-`) the directory is handed over as OPEN_DIRECTORY, opened
    while the privileges are there, and the working directory is /. The death signal comes after
    the change of account, because that change clears it.
    """
    death_signal, parent, directory, uid, gid, *program = arguments
    if uid == "-":
        os.chdir(directory)
    else:
        fixed = int(OPEN_DIRECTORY[-1])
        os.dup2(os.open(directory, os.O_RDONLY | os.O_DIRECTORY), fixed)
        os.set_inheritable(fixed, True)  # dup2 leaves it as it was if it had that number already
        os.chdir("/")
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the supervisor ended before this part began")
    try:
        os.execvp(program[0], program)  # noqa: S606  the parts' own argument lists, no shell
    except OSError as error:
        sys.exit(f"{program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])

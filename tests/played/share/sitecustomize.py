"""Plays a share (CIFS, FUSE) that has neither modes, owners, times, links nor locks."""

import errno
import fcntl
import os


def refused(reason):
    def call(*_, **__):
        raise OSError(reason, os.strerror(reason))

    return call


for name in ("chmod", "chown", "fchmod", "fchown", "lchown", "link", "symlink", "utime"):
    setattr(os, name, refused(errno.EPERM))
os.fsync = refused(errno.EINVAL)
fcntl.flock = fcntl.lockf = refused(errno.EOPNOTSUPP)

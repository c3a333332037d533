"""Plays a share (CIFS, FUSE) that has neither modes, owners, times, links nor locks.

Only the cache's lock is had: the cache is shared by many processes, and lies elsewhere.
"""

import errno
import fcntl
import glob
import os


def refused(reason):
    def call(*_, **__):
        raise OSError(reason, os.strerror(reason))

    return call


def flock(handle, operation):
    caches = glob.glob(f"{os.environ['MURA_TF_CACHE']}/*/lock")
    if not any(os.path.samestat(os.fstat(handle), os.stat(path)) for path in caches):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    return original(handle, operation)


for name in ("chmod", "chown", "fchmod", "fchown", "lchown", "link", "symlink", "utime"):
    setattr(os, name, refused(errno.EPERM))
os.fsync = refused(errno.EINVAL)
original, fcntl.flock = fcntl.flock, flock

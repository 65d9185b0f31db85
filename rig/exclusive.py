"""An ALSA PCM that takes one client at a time, as a card without mixing does.

There is no sound card to be busy, and of the PCMs that ALSA brings along the only one that can be
(`share`) corrupts the heap when it is. So this is a plugin of ALSA's own kind, loaded by ALSA from
its configuration: whoever opens it holds a lock on a file, and the next one gets EBUSY.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOURCE = r"""
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

typedef struct snd_pcm snd_pcm_t;
typedef struct snd_config snd_config_t;
extern int snd_config_search(snd_config_t *, const char *, snd_config_t **);
extern int snd_config_get_string(const snd_config_t *, const char **);
extern int snd_pcm_open(snd_pcm_t **, const char *, int, int);

static int text(snd_config_t *conf, const char *key, const char **value)
{
    snd_config_t *found;
    if (snd_config_search(conf, key, &found) < 0)
        return -EINVAL;
    return snd_config_get_string(found, value);
}

int _snd_pcm_exclusive_open(snd_pcm_t **pcm, const char *name, snd_config_t *root,
                            snd_config_t *conf, int stream, int mode)
{
    const char *lock, *behind;
    (void)name; (void)root;
    if (text(conf, "lock", &lock) < 0 || text(conf, "behind", &behind) < 0)
        return -EINVAL;
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int busy = flock(fd, LOCK_EX | LOCK_NB) < 0;
    close(fd);
    return busy ? -EBUSY : snd_pcm_open(pcm, behind, stream, mode);
}
int __snd_pcm_exclusive_open_dlsym_pcm_001;
"""

COMPILER = shutil.which("cc")


class Exclusive:
    """The PCM `name`, in front of the PCM `behind`."""

    def __init__(self, home: Path, name: str, behind: str) -> None:
        """Build the plugin and add the PCM to the home's ALSA configuration."""
        assert COMPILER is not None
        self._lock = home / f"{name}.lock"
        source, library = home / "exclusive.c", home / "libasound_exclusive.so"
        source.write_text(_SOURCE)
        subprocess.run(
            [COMPILER, "-shared", "-fPIC", "-o", str(library), str(source), "-l:libasound.so.2"],
            check=True,
        )
        with (home / ".asoundrc").open("a", encoding="utf-8") as conf:
            conf.write(
                f'pcm_type.exclusive {{ lib "{library}" open "_snd_pcm_exclusive_open" }}\n'
                f'pcm.{name} {{ type exclusive lock "{self._lock}" behind "{behind}" }}\n'
            )

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Be the other program."""
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

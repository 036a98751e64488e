"""What every script of the builder begins with: the request on stdin, progress on stderr, a tar archive on stdout."""

import base64
import errno
import hashlib
import html
import http.client
import io
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

# Certificates as the distribution keeps them.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# Beside the tree that is handed over: nothing in here reaches the archive.
SCRATCH = "/var/tmp/osvm"
# Whom packages' own code runs as while it is installed.
STRANGER = 65534
# Whom servers run as, in the image that is made: a server may write beside its own files, and nowhere below.
SERVER = 1000


class Failure(Exception):
    """Completes "failed to ...": what, on which thing, why."""


def run(work):
    """Calls `work(request, archive)`. An archive whose end is missing is one of a script that failed."""
    try:
        request = json.load(sys.stdin)
        os.makedirs(SCRATCH, exist_ok=True)
        # What lies in it has rights of its own.
        os.chmod(SCRATCH, 0o711)
        certificates(request.get("ca"))
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            work(request, archive)
        sys.stdout.buffer.flush()
    except Failure as failure:
        give_up(str(failure))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT)
        give_up(out_of_space(error.filename) if full else f"finish: {error}")
    except Exception as error:  # A last line is promised, whatever happens.
        give_up(f"finish: {type(error).__name__}: {error}")


def say(line):
    print(line, file=sys.stderr, flush=True)


def give_up(fragment):
    say("error: " + " ".join(fragment.split()))
    # Not by an exception: what is left of the archive must not be finished on the way out.
    os._exit(1)


def out_of_space(what):
    return f"write {what or 'the packages'}: no space is left in the memory of the builder"


def certificates(more):
    """Points everything that is started later at the distribution's certificates, and at those of the request."""
    bundle = CERTIFICATES
    if more:
        bundle = os.path.join(SCRATCH, "certificates.pem")
        with open(bundle, "w", encoding="utf-8") as file:
            file.write(read_text(CERTIFICATES) + "\n" + more + "\n")
        os.chmod(bundle, 0o644)
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"):
        os.environ[name] = bundle


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


# Fetching. A registry that is busy is asked again.

PAUSES = (1, 3, 9)


def fetch(url, what, accept="*/*"):
    """The bytes at `url` and their content type."""
    url, headers = credentials(url)
    request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "osvm", **headers})
    host = urllib.parse.urlsplit(url).netloc
    for pause in (*PAUSES, None):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            reason = f"{host} answers {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                raise Failure(f"fetch {what}: {reason}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = f"{host} can't be reached ({getattr(error, 'reason', error)})"
        if pause is None:
            raise Failure(f"fetch {what}: {reason}")
        say(f"{what}: {reason}, trying again")
        time.sleep(pause)


def credentials(url):
    """A name and password in a URL are a header: Python's library would look for a host of that name."""
    parts = urllib.parse.urlsplit(url)
    if parts.username is None:
        return url, {}
    secret = urllib.parse.unquote(f"{parts.username}:{parts.password or ''}")
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return plain.geturl(), {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()}


def file_name(url):
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])


# The archive. Owners and times are the same whoever builds it, and whenever.


def add_file(archive, name, content, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def add_link(archive, name, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
    archive.addfile(entry)


def add_folders(archive, *names, owner=0):
    for name in names:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        entry.uid = entry.gid = owner
        archive.addfile(entry)


def add_tree(archive, root):
    """All below `root`, as the server's, by absolute names, sorted; what is no file, folder or symlink stays away."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        add_entry(archive, folder, owner=SERVER)
        for name in sorted(files + links):
            add_entry(archive, os.path.join(folder, name), owner=SERVER)


def add_entry(archive, path, owner=0):
    entry = archive.gettarinfo(path, path.lstrip("/"))
    if entry is None or not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        return
    entry.uid = entry.gid = owner
    entry.mtime = 0
    entry.uname = entry.gname = ""
    # Whoever runs the server reads it; setuid, setgid and writers other than the owner are dropped.
    entry.mode = 0o777 if entry.issym() else (entry.mode & 0o755) | (0o555 if entry.isdir() else 0o444)
    if not entry.isreg():
        archive.addfile(entry)
        return
    with open(path, "rb") as file:
        archive.addfile(entry, file)


# Programs. Their words go to people, line by line; none of them reaches the archive.


def start(command, *, env=None, seconds=None, **options):
    """Runs to the end: (exit status, output, complaints). The status is `None` when the time was over."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )
    try:
        output, complaints = process.communicate(timeout=seconds)
        status = process.returncode
    except subprocess.TimeoutExpired:
        status, output, complaints = None, b"", b""
    # What a script left running could change files that are being read.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    return status, output.decode(errors="replace"), complaints.decode(errors="replace")


def start_stranger(command, *trees, env=None, seconds=None):
    """As `start`, for what runs packages' own code: as a user who owns `trees` and can neither see nor change more."""
    home = SCRATCH + "/stranger"
    os.makedirs(home, exist_ok=True)
    for tree in (home, *trees):
        give(tree)
    identity = {"user": STRANGER, "group": STRANGER, "extra_groups": []}
    env = {**(env or {}), "HOME": home, "TMPDIR": home}
    told = start(command, env=env, seconds=seconds, cwd=home, **identity)
    # Also whatever went away from its parents: all that this user may end.
    start(["/bin/sh", "-c", "kill -9 -1"], **identity)
    shutil.rmtree(home, ignore_errors=True)
    return told


def give(tree):
    os.chown(tree, STRANGER, STRANGER)
    for folder, folders, files in os.walk(tree):
        for name in folders + files:
            os.chown(os.path.join(folder, name), STRANGER, STRANGER, follow_symlinks=False)


def last_lines(text, count=8):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:])

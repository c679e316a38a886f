"""A small image made of the system's busybox, so that no registry is needed."""

import io
import subprocess
import tarfile
from pathlib import Path

NAME = "lab"
BUSYBOX = Path("/bin/busybox")

# Loaded by name at run time, so that ldd(1) does not list them: without them no host name is ever found.
RESOLVERS = ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2")

PEER = """#!/bin/sh
printf "Content-Type: text/plain\\r\\n\\r\\n"
echo "$REMOTE_ADDR" | sed "s/[][]//g; s/^::ffff://"
"""
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:99:99:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:99:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "www/index.html": "lab\n",
    # What the server says about the client: the address that it saw.
    "www/cgi-bin/peer": PEER,
    "seed/greeting": "from the image\n",  # a directory with content, to be copied into a fresh volume
}
FOLDERS = ("tmp", "root", "proc", "sys", "dev", "var")


def shared_objects(program: Path) -> list[Path]:
    """The libraries that the dynamic loader maps for the program, the loader itself included."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False, timeout=10).stdout
    found = [Path(word) for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    beside = {library.parent for library in found}
    found += [folder / name for folder in beside for name in RESOLVERS if (folder / name).exists()]
    return sorted(set(found))


def tar() -> bytes:
    """The root file system as a tar archive for `docker import`."""
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True, timeout=10).stdout.split()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(BUSYBOX.resolve(), "bin/busybox")
        for library in shared_objects(BUSYBOX):
            archive.add(library.resolve(), str(library).lstrip("/"))
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                archive.addfile(link)
        for folder in FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for name, text in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755 if "cgi-bin" in name else 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()

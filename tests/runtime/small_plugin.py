"""A managed plugin: a volume driver that keeps directories, or files in memory, below its propagated mount.

It is run by the host's python3, of which its folder only has the mounts.
"""

import http.server
import json
import os
import socketserver
import subprocess
import sys
from pathlib import Path

HOME = Path("/propagated")


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing is printed: who asks by a Unix socket has no address."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        name, verb = body.get("Name", ""), self.path.partition(".")[2]
        place = HOME / name
        found = {"Name": name, "Mountpoint": str(place)}
        answer: dict[str, object] = {}
        if verb == "Create":
            place.mkdir()
        elif verb == "Mount":
            if not os.path.ismount(place):
                subprocess.run(["mount", "-t", "tmpfs", "small", str(place)], check=True)
            answer = {"Mountpoint": str(place)}
        elif verb == "Get":
            answer = {"Volume": found} if place.is_dir() else {"Err": "no such volume"}
        elif verb == "Remove":
            subprocess.run(["umount", str(place)], check=False)
            place.rmdir()
        elif verb == "List":
            answer = {"Volumes": [{"Name": it.name, "Mountpoint": str(it)} for it in HOME.iterdir()]}
        elif verb == "Capabilities":
            answer = {"Capabilities": {"Scope": os.environ.get("SCOPE", "local")}}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    if os.environ.get("MOOD") == "bad":
        sys.exit("small: not today")
    with socketserver.ThreadingUnixStreamServer("/run/docker/plugins/small.sock", Handler) as server:
        server.serve_forever()


main()

"""Somebody else's network plugin, as small as one can be. Run as a file: stub_driver.py SOCKET.

An endpoint is one end of a veth pair, which the engine moves; the other end stays. There is no gateway.
"""

import json
import socketserver
import subprocess
import sys
from http.server import BaseHTTPRequestHandler


class Driver(BaseHTTPRequestHandler):
    """Answers the engine."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One request, one answer."""
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        answer = json.dumps(self._answer(self.path.rpartition(".")[2], request)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _answer(self, method: str, request: dict[str, str]) -> dict[str, object]:
        link = f"st{request.get('EndpointID', '')[:8]}"
        match method:
            case "Activate":
                return {"Implements": ["NetworkDriver"]}
            case "GetCapabilities":
                return {"Scope": "local"}
            case "CreateEndpoint":
                ip("link", "add", link, "type", "veth", "peer", "name", f"{link}p")
                return {"Interface": {}}
            case "DeleteEndpoint":
                ip("link", "del", link)
            case "Join":
                return {"InterfaceName": {"SrcName": f"{link}p", "DstPrefix": "stub"}, "DisableGatewayService": True}
        return {}

    def address_string(self) -> str:
        """Who is on the other side of a Unix socket has no address."""
        return "engine"


def ip(*words: str) -> None:
    """The command was run; what is gone already needs no deletion."""
    subprocess.run(["ip", *words], check=False)


class Server(socketserver.ThreadingUnixStreamServer):
    """Ends without waiting for the engine's idle connections."""

    daemon_threads = True


if __name__ == "__main__":
    Server(sys.argv[1], Driver).serve_forever()

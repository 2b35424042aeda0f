"""The network of a chaos run: every connection goes through here, and breaks where it is told to, at any byte."""

from __future__ import annotations

import contextlib
import socket
import threading

__all__ = ["Relay"]

PIECE = 4096


class Relay:
    """Listens on `port` and passes bytes to `target`. Threads, so that it goes on while the test waits."""

    def __init__(self) -> None:
        self.target = 0
        """The node's port."""
        self.open = True
        """False: nobody gets through."""
        self._budget: int | None = None
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Break what is connected, with what is on its way; returns how many connections that were."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._break(pair)
        return len(pairs)

    def cut_after(self, size: int) -> None:
        """Break the connection over which the next `size` bytes, either way, have gone."""
        with self._lock:
            self._budget = size

    def mend(self) -> None:
        """Let everything pass."""
        with self._lock:
            self.open, self._budget = True, None

    def close(self) -> None:
        """No network any more."""
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            pair = near, far
            for sock in pair:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add(pair)
            for come, go in (pair, pair[::-1]):
                threading.Thread(target=self._pass, args=(pair, come, go), daemon=True).start()

    def _pass(self, pair: tuple[socket.socket, socket.socket], come: socket.socket, go: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := come.recv(PIECE):
                allowed = self._spend(len(data))
                go.sendall(data[:allowed])
                if allowed < len(data):
                    break
        self._break(pair)

    def _spend(self, size: int) -> int:
        """How many of so many bytes still pass."""
        with self._lock:
            if self._budget is None:
                return size
            allowed, self._budget = min(size, self._budget), self._budget - size
            if self._budget < 0:
                self._budget = None
            return allowed

    def _break(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for sock in pair:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

"""The worker process: ``python -m lamina.engine.worker``, started by the engine for flushes and compactions.

It speaks the frames of workers.py over its standard input and output, and lives as long as its standard input
is open: the parent's death, however sudden, ends it. Nothing of the parent's program is imported.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading

from lamina.engine.compaction.job import from_json
from lamina.engine.filesystem import DiskFileSystem
from lamina.engine.workers import JobRunner, Reply, read_frame, reply_to_json, write_frame


def main() -> None:
    """Serve jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(OSError):
        os.nice(1)  # the writer answers people, the worker does not
    # Our own copies of the pipes: what a library prints must not get between frames.
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    target = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(reply: Reply) -> None:
        with lock:
            try:
                write_frame(target, reply_to_json(reply))
            except OSError:
                os._exit(1)  # nobody listens any more

    runner = JobRunner(DiskFileSystem(), send)

    def receive() -> None:
        try:
            while (message := read_frame(source)) is not None:
                if "pause" in message:
                    runner.inbox.put(bool(message["pause"]))
                else:
                    runner.inbox.put((message["id"], from_json(message["job"]), None))
        finally:
            os._exit(0)  # the parent is gone or done with us; half-written files are swept later

    threading.Thread(target=receive, name="lamina-worker-input", daemon=True).start()
    runner.loop()


if __name__ == "__main__":
    main()

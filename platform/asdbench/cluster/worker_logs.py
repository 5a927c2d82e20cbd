"""Log records and printed lines of workers, sent to the driver as events."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asdbench.cluster.worker_output import captured_output
from asdbench.engine.events import LOGGERS, LogLine


class EventHandler(logging.Handler):
    """Sends log records from level INFO as events with the name of this host.

    Parameters
    ----------
    send : sends an event to the driver; its return value is ignored
    label : the task, for people
    """

    def __init__(self, send: Callable[[LogLine], object], label: str = "") -> None:
        super().__init__(logging.INFO)
        self._send = send
        self._label = label

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            host = socket.gethostname()
            self._send(LogLine(host, record.name, record.levelno, self.format(record), self._label))
        except Exception:
            self.handleError(record)


@contextmanager
def forwarded_logs(send: Callable[[LogLine], object], *, label: str = "") -> Iterator[None]:
    """Send log records, printed lines and warnings with ``send`` while the context is open.

    Log records are those of the platform and of ``systems``, from level INFO. A process that prints very much
    sends a part of it, and how much it left out.

    Parameters
    ----------
    send : sends an event to the driver; its return value is ignored
    label : the task, for people

    >>> lines = []
    >>> with forwarded_logs(lines.append, label="fan my-system seed 0"):
    ...     logging.getLogger("asdbench.engine").info("training %s", "fan")
    >>> lines[0].logger, lines[0].task, lines[0].message
    ('asdbench.engine', 'fan my-system seed 0', 'training fan')
    """
    handler = EventHandler(send, label)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)

    def send_printed(origin: str, level: int, text: str) -> None:
        send(LogLine(socket.gethostname(), origin, level, text, label, printed=True))

    try:
        with captured_output(send_printed):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)

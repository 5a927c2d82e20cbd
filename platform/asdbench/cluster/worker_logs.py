"""Log records of workers, sent to the driver as events."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asdbench.engine.events import LOGGERS, LogLine


class EventHandler(logging.Handler):
    """Sends log records from level INFO as events with the name of this host.

    Parameters
    ----------
    send : sends an event to the driver; its return value is ignored
    """

    def __init__(self, send: Callable[[LogLine], object]) -> None:
        super().__init__(logging.INFO)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            self._send(LogLine(socket.gethostname(), record.name, record.levelno, self.format(record)))
        except Exception:
            self.handleError(record)


@contextmanager
def forwarded_logs(send: Callable[[LogLine], object]) -> Iterator[None]:
    """Send the platform's log records with ``send`` while the context is open.

    >>> lines = []
    >>> with forwarded_logs(lines.append):
    ...     logging.getLogger("asdbench.engine").info("training %s", "fan")
    >>> lines[0].logger, lines[0].message
    ('asdbench.engine', 'training fan')
    """
    handler = EventHandler(send)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)

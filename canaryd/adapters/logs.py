"""Sets up logging: facts with keys, as JSON lines or readable text, including the warnings of libraries.

All logs go to stderr, since stdout is for the output of commands.
"""

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Makes an import of this module fail within the block, if it was not imported before."""
    hides = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]  # None: import refuses it
    try:
        yield
    finally:
        if hides:
            del sys.modules[module]


# If rich is installed, structlog imports it for tracebacks that canaryd does not show: 9 MB and 50 ms for
# nothing.
with _hidden("rich"):
    import structlog
    from structlog.typing import FilteringBoundLogger, Processor

Format = Literal["auto", "json", "console"]
LEVELS = ("debug", "info", "warning", "error")
# The logger of the package. Other loggers are shown from WARNING on, since kubernetes' DEBUG has tokens.
OWN = "canaryd"


def logger(name: str) -> FilteringBoundLogger:
    """The logger of this name. Modules that import structlog themselves must do so after this module, which
    keeps rich from being imported."""
    made: FilteringBoundLogger = structlog.get_logger(name)
    return made


def setup(level: str = "info", format: Format = "auto", stream: TextIO | None = None) -> None:
    """Sets up logging; may be called again. level: one of LEVELS. format: auto is console on a terminal and
    JSON otherwise. stream: stderr by default. Raises ValueError for an unknown level or format."""
    if level.lower() not in LEVELS:
        raise ValueError(f"log level must be one of {', '.join(LEVELS)}, but is {level}")
    if format not in ("auto", "json", "console"):
        raise ValueError(f"log format must be one of auto, json, console, but is {format}")
    out = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a logger that was made before the settings were read follows them
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(console, out),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OWN).setLevel(level.upper())
    logging.captureWarnings(True)


def _rendering(console: bool, out: TextIO) -> list[Processor]:
    if console:
        # Not rich's tracebacks: they show local variables, which may be passwords.
        return [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, timestamp_key="time"
            )
        ]
    exceptions = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    return [exceptions, structlog.processors.JSONRenderer(serializer=_to_json)]


def _to_json(event: Mapping[str, Any], **options: Any) -> str:
    """One line of valid JSON for any values: infinite numbers and NaN become text."""
    try:
        return json.dumps(event, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(event), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value

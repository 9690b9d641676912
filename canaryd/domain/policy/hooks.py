"""A policy's `hooks`: which notifiers announce which events, and which gates are asked before the rollout
goes on.

A gate is an HTTP endpoint that says whether a rollout may go on, such as a smoke test of the canary.
`domain/gates.py` decides which gate is asked when, and what its replies mean.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from canaryd.domain.policy.fields import LabelName, PositiveSeconds, is_label_name, unique, url
from canaryd.domain.policy.units import format_duration
from canaryd.domain.policy.validation import StrictModel, refusal, refuse_at, shown

EVENTS = (
    "started",
    "advanced",
    "approval_needed",
    "held",
    "resumed",
    "stepped_back",
    "rolled_back",
    "superseded",
    "succeeded",
    "alert_after_promotion",
)
Event = Literal[
    "started",
    "advanced",
    "approval_needed",
    "held",
    "resumed",
    "stepped_back",
    "rolled_back",
    "superseded",
    "succeeded",
    "alert_after_promotion",
]
ALERT_AFTER_PROMOTION: Event = "alert_after_promotion"

Place = Literal["start", "promotion"] | int

# As text, so that they mean the same in a file and in code. A test takes seconds to minutes; its owner hears
# of a closed gate within the hour.
_OF_GATES: Mapping[str, str] = {"timeout": "10s", "every": "15s", "deadline": "15m", "closed": "hold"}


def _place(value: object) -> object:
    if value in ("start", "promotion"):
        return value
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or not re.fullmatch(r"[0-9]{1,3}", text):
        raise refusal(f"must be start, promotion or a weight of the ladder such as 50, but is {shown(value)}")
    return int(text)


def _gate(value: str) -> str:
    if is_label_name(value):
        return value
    if not re.match(r"\w+://", value):
        raise refusal(
            "must be a URL such as https://tests.example/smoke, or a gate's name in config/canaryd.yaml, "
            f"but is {shown(value)}"
        )
    return url(
        value, "https://tests.example/smoke", "define a gate in config/canaryd.yaml, which may have basicAuth"
    )


_PLACE_SCHEMA = {
    "anyOf": [
        {"enum": ["start", "promotion"]},
        {"type": "integer", "minimum": 0, "maximum": 100},
        {"type": "string", "pattern": "^[0-9]{1,3}$"},
    ]
}


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that is asked before a place of the ladder.

    target: the gate's URL, or its name in the daemon's settings. timeout: seconds for one answer. every:
    seconds between a reply that keeps the gate closed and the next question. deadline: seconds that the gate
    may stay closed; `closed` says what happens then.
    """

    before: Place
    target: str
    timeout: float
    every: float
    deadline: float
    closed: Literal["hold", "rollback"]

    @property
    def is_url(self) -> bool:
        """Whether the target is a URL, and not the name of a gate in the settings."""
        return "://" in self.target

    @property
    def name(self) -> str:
        """The target for messages: a URL without its query and fragment, which may hold tokens."""
        return re.split(r"[?#]", self.target, maxsplit=1)[0]

    @property
    def place(self) -> str:
        """The place in words: `50%`, `the start`."""
        return f"{self.before}%" if isinstance(self.before, int) else f"the {self.before}"


class Hook(StrictModel):
    """Either an announcement (`on`, `notify`) or a gate (`before`, `gate`)."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["on", "notify"]}, {"required": ["before", "gate"]}]}
    )
    on: tuple[Event, ...] | None = Field(
        default=None, min_length=1, description="The events that are announced."
    )
    notify: LabelName | None = Field(
        default=None, description="The notifier that announces them, by its name in config/canaryd.yaml."
    )
    before: Annotated[Place | None, BeforeValidator(_place), WithJsonSchema(_PLACE_SCHEMA)] = Field(
        default=None,
        description="The place before which the gate is asked: start, promotion, or a weight of the ladder.",
    )
    gate: Annotated[str, AfterValidator(_gate)] | None = Field(
        default=None,
        description="The gate: a URL, or its name in config/canaryd.yaml. A 2xx reply other than 202 opens "
        "it; anything else keeps it closed.",
    )
    timeout: PositiveSeconds | None = Field(
        default=None, description="For a gate: the time limit of one answer. Default 10s."
    )
    every: PositiveSeconds | None = Field(
        default=None, description="For a gate: the time between a reply and the next question. Default 15s."
    )
    deadline: PositiveSeconds | None = Field(
        default=None,
        description="For a gate: the longest time that it may stay closed; `closed` says what happens "
        "then. Default 15m.",
    )
    closed: Literal["hold", "rollback"] | None = Field(
        default=None,
        description="For a gate: what happens if it is still closed at its deadline. A hold ends when the "
        "gate opens later. Default hold.",
    )

    @model_validator(mode="before")
    @classmethod
    def _gates_have_defaults(cls, data: Any) -> Any:
        return {**_OF_GATES, **data} if isinstance(data, dict) and "gate" in data else data

    @field_validator("on")
    @classmethod
    def _each_once(cls, events: tuple[Event, ...] | None) -> tuple[Event, ...] | None:
        return unique(events) if events is not None else None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name in ("on", "notify", "before", "gate") if getattr(self, name) is not None]
        if given not in (["on", "notify"], ["before", "gate"]):
            raise refusal(
                "must have on and notify, or before and gate, but has "
                f"{' and '.join(given) or 'none of them'}"
            )
        of_gates_alone = [name for name in _OF_GATES if self.gate is None and getattr(self, name) is not None]
        refuse_at(
            *(((name,), "must be set only with a gate, but is set with notify") for name in of_gates_alone)
        )
        if self.timeout is not None and self.deadline is not None and self.deadline < self.timeout:
            least, came = format_duration(self.timeout), format_duration(self.deadline)
            refuse_at((("deadline",), f"must be at least the timeout of one answer ({least}), but is {came}"))
        return self

    @property
    def asks(self) -> Gate | None:
        """The hook's gate; None for an announcement."""
        if (
            self.before is None
            or self.gate is None
            or self.timeout is None
            or self.every is None
            or self.deadline is None
            or self.closed is None
        ):
            return None
        return Gate(self.before, self.gate, self.timeout, self.every, self.deadline, self.closed)

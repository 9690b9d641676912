"""One step of a policy's ladder: who gets the canary in it, for how long at least, and until when it has to
be decided."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    StrictInt,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from canaryd.domain.policy.fields import Part, Seconds, without_default
from canaryd.domain.policy.match_conditions import Matches, described
from canaryd.domain.policy.units import format_share
from canaryd.domain.policy.validation import Key, StrictModel, refusal, refuse_at, shown

LEAST = 1e-6  # Envoy draws millionths: of less it makes nothing, and no copy would ever come


def _approval(value: object, info: ValidationInfo) -> object:
    if value == "required":
        return True
    if info.context or not isinstance(value, bool):
        raise refusal(f"must be required, or left out, but is {shown(value)}")
    return value


def _some(share: float) -> float:
    if share <= 0:
        raise refusal(f"must be above 0%, but is {format_share(share)}")
    if share < LEAST:
        raise refusal(
            f"must be at least {format_share(LEAST)}, for proxies draw no smaller share, but is "
            f"{format_share(share)}"
        )
    return share


class Stage(StrictModel):
    """One step of the ladder, held for at least `minimum`; undecided at `deadline`, `analysis.undecided` says
    what happens."""

    weight: StrictInt = Field(
        default=0,
        ge=0,
        le=100,
        description="The canary's share of the traffic in per cent, 0 to 100; 0 is dark. May be left out "
        "beside match or mirror.",
    )
    match: Matches = Field(
        default=(),
        description="Requests that all go to the canary in this stage; of a list any. They are compared with "
        "all others, so such a stage passes by its minimum, and rolls back on harm.",
        json_schema_extra=without_default,
    )
    split: Literal["half"] | None = Field(
        default=None,
        description="Beside match: `half` of the matched requests go to stable, drawn by lot, and these two "
        "halves are compared: so the stage passes by its evidence. Needs analysis.reporter: "
        "source.",
    )
    mirror: Annotated[Part, AfterValidator(_some)] | None = Field(
        default=None,
        description="So much of stable's requests is copied to the canary, whose answers nobody sees: above "
        "0% to 100%.",
    )
    minimum: Seconds = Field(default=120.0, description="A stage is never shorter.")
    deadline: Seconds = Field(
        default=900.0, description="Undecided at it, `analysis.undecided` says what happens."
    )
    approval: Annotated[
        bool,
        BeforeValidator(_approval),
        PlainSerializer(lambda asked: "required" if asked else None),
        WithJsonSchema({"const": "required"}),
    ] = Field(
        default=False,
        description="`required`: a person is asked after this stage has passed, before the next weight.",
        json_schema_extra=without_default,
    )

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        wrong: list[tuple[Key, str]] = []
        if not ({"weight"} & self.model_fields_set or self.match or self.mirror):
            wrong.append(
                (("weight",), f"is missing, wanted: {type(self).model_fields['weight'].description}")
            )
        if self.weight == 100 and self.match:
            wrong.append(
                (
                    ("match",),
                    "must be left out at weight 100, where all requests go to the canary, but is there",
                )
            )
        if self.mirror is not None and self.weight:
            came = f"but is at weight {self.weight}"
            wrong.append(
                (
                    ("mirror",),
                    f"must be at weight 0, so that the canary serves copies alone, {came}; make two stages "
                    "of it",
                )
            )
        if self.mirror is not None and self.match:
            wrong.append(
                (
                    ("mirror",),
                    "must be without match, since copies are of all users and the matched are not, but is "
                    "beside one; make two stages of it",
                )
            )
        if self.split and not self.match:
            wrong.append(
                (
                    ("split",),
                    "must be beside match, whose requests it splits, but there is none; for a share of all "
                    "users write weight",
                )
            )
        refuse_at(*wrong)
        return self

    @property
    def kind(self) -> Literal["weight", "match", "split", "mirror", "dark"]:
        """What brings the canary its requests. weight: the draw alone. match: also requests that are not like
        stable's. split: half of such requests, and stable the other half. mirror: copies. dark: nothing but
        previews."""
        if self.match:
            return "split" if self.split else "match"
        return "mirror" if self.mirror is not None else "weight" if self.weight else "dark"

    @property
    def rules_out(self) -> bool:
        """Whether the stage passes by what it has ruled out; others do by time, and without harm near."""
        return self.weight < 100 and self.kind in ("weight", "split", "mirror")

    @property
    def promised(self) -> float:
        """The canary's share that the draw makes of the requests that are compared, in per cent: the weight,
        9.09 at 10% copied, or 50 of matched requests that are split."""
        if self.split:
            return 50
        return self.weight if self.mirror is None else 100 * self.mirror / (1 + self.mirror)

    @property
    def short(self) -> str:
        """For a table's cell: `10%`, `dark`, `10% mirrored`, `match`, `half of match`, `match, 10%`."""
        if not self.match:
            return self.said
        who = "half of match" if self.split else "match"
        return f"{who}, {self.weight}%" if self.weight else who

    @property
    def how(self) -> str:
        """After "in stage 2/4" or "held": `at 10%`, `dark`, `with 10% mirrored`, `for cookie ~
        .*logged_in.*`."""
        return {"weight": "at ", "dark": "", "mirror": "with ", "match": "for ", "split": "for "}[
            self.kind
        ] + self.said

    @property
    def said(self) -> str:
        """Who gets the canary, in words: `10%`, `dark`, `10% mirrored`, `half of cookie ~ .*x.*`, `cookie ~
        .*x.*; 10% of others`."""
        if self.mirror is not None:
            return f"{format_share(self.mirror)} mirrored"
        if not self.match:
            return f"{self.weight}%" if self.weight else "dark"
        who = ("half of " if self.split else "") + described([match.istio for match in self.match])
        return f"{who}; {self.weight}% of others" if self.weight else who

"""One stage of a policy's ladder: which requests go to the canary, the shortest time that the stage lasts,
and its deadline."""

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

SMALLEST_SHARE = 1e-6  # Envoy draws millionths: it rounds less to nothing, and no copy would ever come


def _approval(value: object, info: ValidationInfo) -> object:
    if value == "required":
        return True
    if info.context or not isinstance(value, bool):
        raise refusal(f"must be required, or left out, but is {shown(value)}")
    return value


def _some(share: float) -> float:
    if share <= 0:
        raise refusal(f"must be above 0%, but is {format_share(share)}")
    if share < SMALLEST_SHARE:
        raise refusal(
            f"must be at least {format_share(SMALLEST_SHARE)}, the smallest share that proxies draw, but is "
            f"{format_share(share)}"
        )
    return share


class Stage(StrictModel):
    """One stage of the ladder. It lasts at least `minimum`; if it is undecided at `deadline`,
    `analysis.undecided` says what happens."""

    weight: StrictInt = Field(
        default=0,
        ge=0,
        le=100,
        description="The canary's share of the traffic in per cent, 0 to 100. At 0 the canary is dark: no "
        "user is sent to it by weight. May be left out where match or mirror is set.",
    )
    match: Matches = Field(
        default=(),
        description="In this stage all matching requests go to the canary; a request matches a list if it "
        "matches any entry. They are compared with all other requests, so such a stage passes "
        "when its minimum is over, and rolls back on harm.",
        json_schema_extra=without_default,
    )
    split: Literal["half"] | None = Field(
        default=None,
        description="With match: `half` sends a random half of the matched requests to stable and compares "
        "the two halves, so the stage passes by its evidence. Needs analysis.reporter: source.",
    )
    mirror: Annotated[Part, AfterValidator(_some)] | None = Field(
        default=None,
        description="The share of stable's requests that is copied to the canary, above 0% to 100%. Users "
        "never see the canary's answers to copies.",
    )
    minimum: Seconds = Field(default=120.0, description="The shortest time that the stage lasts.")
    deadline: Seconds = Field(
        default=900.0,
        description="The longest time that the stage waits for a decision; `analysis.undecided` says "
        "what happens then.",
    )
    approval: Annotated[
        bool,
        BeforeValidator(_approval),
        PlainSerializer(lambda asked: "required" if asked else None),
        WithJsonSchema({"const": "required"}),
    ] = Field(
        default=False,
        description="`required`: after this stage has passed, a person must approve before the next weight "
        "is set.",
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
                    "must be left out at weight 100, where all requests go to the canary, but is set",
                )
            )
        if self.mirror is not None and self.weight:
            wrong.append(
                (
                    ("mirror",),
                    "must be at weight 0, so that the canary serves only copies, but is at weight "
                    f"{self.weight}; make two stages of it",
                )
            )
        if self.mirror is not None and self.match:
            wrong.append(
                (
                    ("mirror",),
                    "must be without match, since copies are taken from all users' requests and not from "
                    "matched ones, but is set together with match; make two stages of it",
                )
            )
        if self.split and not self.match:
            wrong.append(
                (
                    ("split",),
                    "must be set only together with match, whose requests it splits, but match is missing; "
                    "for a share of all users use weight",
                )
            )
        refuse_at(*wrong)
        return self

    @property
    def kind(self) -> Literal["weight", "match", "split", "mirror", "dark"]:
        """How requests reach the canary. weight: by the random draw alone. match: matched requests as well,
        which are not like stable's. split: half of the matched requests, and stable gets the other half.
        mirror: as copies. dark: only as previews."""
        if self.match:
            return "split" if self.split else "match"
        return "mirror" if self.mirror is not None else "weight" if self.weight else "dark"

    @property
    def rules_out(self) -> bool:
        """Whether the stage passes when it has ruled out an unacceptable regression; other stages pass by
        time, as long as no harm is near."""
        return self.weight < 100 and self.kind in ("weight", "split", "mirror")

    @property
    def promised(self) -> float:
        """The canary's expected share of the compared requests, in per cent: the weight, 9.09 where 10% are
        copied, or 50 where matched requests are split."""
        if self.split:
            return 50
        return self.weight if self.mirror is None else 100 * self.mirror / (1 + self.mirror)

    @property
    def short(self) -> str:
        """The text for a table's cell: `10%`, `dark`, `10% mirrored`, `match`, `half of match`, `match,
        10%`."""
        if not self.match:
            return self.said
        who = "half of match" if self.split else "match"
        return f"{who}, {self.weight}%" if self.weight else who

    @property
    def how(self) -> str:
        """The text that follows "in stage 2/4" or "held": `at 10%`, `dark`, `with 10% mirrored`, `for cookie
        ~ .*logged_in.*`."""
        return {"weight": "at ", "dark": "", "mirror": "with ", "match": "for ", "split": "for "}[
            self.kind
        ] + self.said

    @property
    def said(self) -> str:
        """The requests that go to the canary, in words: `10%`, `dark`, `10% mirrored`, `half of cookie ~
        .*x.*`, `cookie ~ .*x.*; 10% of others`."""
        if self.mirror is not None:
            return f"{format_share(self.mirror)} mirrored"
        if not self.match:
            return f"{self.weight}%" if self.weight else "dark"
        who = ("half of " if self.split else "") + described([match.istio for match in self.match])
        return f"{who}; {self.weight}% of others" if self.weight else who

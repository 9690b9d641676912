"""A policy's `route.affinity`: the cookie that keeps users on their version, and how many users there are."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StrictInt

from canaryd.domain.policy.fields import WholeSeconds, without_default
from canaryd.domain.policy.validation import StrictModel, refusal, shown

FEWEST_USERS = 10
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 6265: a token


def _cookie_name(value: str) -> str:
    if value and not _NAME.fullmatch(value):
        raise refusal(f"must be a cookie's name, such as canaryd-front-end, but is {shown(value)}")
    return value


class Affinity(StrictModel):
    """Draws users instead of requests: a cookie keeps a user who saw the new version on it while the rollout
    lasts."""

    cookie: Annotated[str, AfterValidator(_cookie_name)] = Field(
        default="",
        description="The cookie's name, used for this service alone. Default: canaryd-SERVICE.",
        json_schema_extra=without_default,
    )
    max_age: WholeSeconds = Field(
        default=7 * 86400,
        description="How long a user's draw is remembered; at least as long as a rollout may last.",
    )
    users: StrictInt = Field(
        default=10_000,
        ge=FEWEST_USERS,
        description="Roughly how many different users come in an hour. With fewer users, more is allowed "
        "for the chance of their draw.",
    )

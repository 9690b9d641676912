"""What a policy says of users who stay on their version: the cookie that remembers them, and how many there
are."""

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
    """Users, not requests, are drawn: who saw the new version stays on it while the rollout lasts, by a
    cookie."""

    cookie: Annotated[str, AfterValidator(_cookie_name)] = Field(
        default="",
        description="Its name, for this service alone. Default: canaryd-SERVICE.",
        json_schema_extra=without_default,
    )
    max_age: WholeSeconds = Field(
        default=7 * 86400,
        description="So long a user's draw is remembered; not shorter than a rollout may last.",
    )
    users: StrictInt = Field(
        default=10_000,
        ge=FEWEST_USERS,
        description="How many different users come in an hour, roughly: the fewer, the more the luck of "
        "their draw is allowed for.",
    )

"""Whose requests do not follow the weight is said by name and number, with what to do."""

from __future__ import annotations

from canaryd.domain.counts import Source
from canaryd.report.off_weight_callers import describe

GATEWAY = Source("istio-ingressgateway", "istio-system", 4490, 510)
ORDERS = Source("orders", "production", 1500, 1500)
BOUND = "VirtualService sockshop is bound to shop alone"


def said(*sources: Source, unsteered: str = "") -> str:
    return describe(sources, 10, "v2", "front-end", unsteered)


def test_who_follows_and_who_does_not_are_told_apart() -> None:
    assert said(GATEWAY, ORDERS, unsteered=BOUND) == (
        "requests of istio-ingressgateway in istio-system (10.2% of 5,000 went to v2) follow the weight, "
        "those of orders in production (50% of 3,000 went to v2) do not. VirtualService sockshop is bound to "
        "shop alone"
    )


def test_where_the_virtualservice_is_bound_to_the_mesh_it_is_asked_what_else_may_be() -> None:
    assert "spec.exportTo" in said(GATEWAY, ORDERS)
    assert "spec.exportTo" not in said(GATEWAY, ORDERS, unsteered=BOUND)


def test_callers_without_a_name_are_as_a_rule_pods_without_a_sidecar() -> None:
    text = said(GATEWAY, Source("unknown", "unknown", 200, 200))
    assert "those of callers without a name (50% of 400 went to v2) do not" in text
    assert "without a sidecar" in text
    assert "spec.exportTo" not in text


def test_of_many_callers_the_first_are_named_and_the_others_counted() -> None:
    text = said(*(Source(f"caller-{number}", "production", 500, 500) for number in range(5)))
    assert "caller-0 in production" in text
    assert "caller-3" not in text
    assert "and 2 more do not follow it" in text


def test_too_few_requests_put_a_caller_on_neither_side() -> None:
    text = said(ORDERS, Source("carts", "production", 3, 1))
    assert "carts" not in text


def test_where_nobody_is_known_to_be_off_only_the_route_is_told_of() -> None:
    assert said() == said(GATEWAY) == ""
    assert said(unsteered=BOUND) == BOUND

"""Which Services of a namespace are deployed by `--all`."""

from __future__ import annotations

from canaryd.commands.deploy.version_selection import services
from tests.commands.deploy.two_namespaces import a_service, running, staging


def test_each_service_with_a_deployment_is_one_in_the_order_of_names() -> None:
    place = staging(
        running(),
        running("carts", labels={"app": "carts"}),
        services=[
            a_service(),
            a_service("carts", selector={"app": "carts"}),
            a_service("rabbitmq", selector={"app": "q"}),
        ],
    )
    assert services(place) == (["carts", "front-end"], ["rabbitmq has no Deployment"])


def test_a_service_without_a_selector_selects_nothing() -> None:
    external = {
        "kind": "Service",
        "metadata": {"name": "outside"},
        "spec": {"type": "ExternalName", "externalName": "x"},
    }
    assert services(staging(services=[external])) == ([], ["outside has no Deployment"])


def test_a_twin_of_a_service_and_one_over_many_are_no_services_of_their_own() -> None:
    both = (
        running(name, labels={"app": app, "tier": "web"})
        for name, app in (("front-end-v1", "front-end"), ("carts", "carts"))
    )
    place = staging(
        *both,
        services=[
            a_service("front-end-headless"),
            a_service(),
            a_service("web", selector={"tier": "web"}),
            a_service("carts", selector={"app": "carts"}),
        ],
    )
    assert services(place) == (
        ["carts", "front-end"],
        [
            "front-end-headless selects the Deployments of front-end",
            "web selects the Deployments of carts, front-end",
        ],
    )


def test_a_deployment_named_unlike_any_service_is_still_of_one() -> None:
    place = staging(running("ui"), services=[a_service("web"), a_service("app")])
    assert services(place) == (["app"], ["web selects the Deployments of app"])

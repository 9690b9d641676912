"""What it takes to deploy a version that runs in one namespace beside the present one in another. Pure: objects in, objects out.

    objects.py     the words: manifests, what a namespace has, the port, and an object bare of what server and owners wrote into it
    choosing.py    which Deployment is meant, and which one is stable
    routing.py     whom a namespace's routes send a service's requests to, and whether new pods would get some at once
    template.py    the new Deployment
    companions.py  what goes with it: autoscaler, disruption budget, a first Service
    references.py  which ConfigMaps, Secrets and so on a template names, and where it mentions the namespace it came from
    draft.py       all of it together: what would be created, or why nothing is

Nothing here decides about traffic: routes, subsets and weights are canaryd's own rollout's.
"""

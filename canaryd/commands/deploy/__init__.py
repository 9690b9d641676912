"""`canaryd deploy`: a version that runs in one namespace, deployed beside the present one in another.

    version_selection    which Deployment is meant, and which one is stable
    new_deployment       the new Deployment
    companions           what goes with it: autoscaler, disruption budget, a first Service
    template_references  which ConfigMaps, Secrets and so on a template names; mentions of the old namespace
    draft                all of it together: what would be created, or why nothing is
    deployer             creates a draft, in order, and goes on where it was interrupted

Nothing here decides about traffic: routes, subsets and weights are the rollout's own.
"""

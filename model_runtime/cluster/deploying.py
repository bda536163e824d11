"""Put a model on a Ray cluster, replace it without losing a request, take it away.

A deployment that is deployed again with another model is rolled over by Ray Serve: a few replicas at a time are
replaced, and each that goes is first let finish what it has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model_runtime.backends.loading import Loading
from model_runtime.protocol import ModelError, RequestError

APP = "diffill"


@dataclass(frozen=True)
class Plan:
    """What is to run: each replica has `gpus` and `cpus` for itself and serves up to `together` fills at once.

    Between `least` and `most` replicas run, as many as keep each at about `busy` requests.
    """

    model: str = "embedded"
    least: int = 1
    most: int = 1
    gpus: float = 0.0
    cpus: float = 1.0
    together: int = 8
    busy: float = 4.0
    keep_context: float = 64.0
    loading: Loading | None = None

    def check(self) -> None:
        """Raise RequestError with one sentence for the first figure that cannot be."""
        if not 1 <= self.least <= self.most:
            raise RequestError(f"--replicas is MIN or MIN:MAX from 1, not {self.least}:{self.most}")
        for name in ("gpus", "cpus"):
            if getattr(self, name) < 0:
                raise RequestError(f"--{name} is not negative, as {getattr(self, name):g} is")
        if self.together < 1 or self.busy <= 0:
            raise RequestError("--together is at least 1 and --busy above 0")


def load_ray() -> Any:
    """The module ray; ModelError with one sentence where it is not installed."""
    try:
        import ray
        import ray.serve
    except ImportError as error:
        raise ModelError("a cluster needs Ray: pip install 'diffill[cluster]'") from error
    return ray


def join(address: str) -> None:
    """Connect this process to a cluster: "auto" for that of this machine, else its address."""
    ray = load_ray()
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, namespace=APP, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ModelError(f"no Ray cluster answers at {address}: ray start --head starts one") from error


def deploy(plan: Plan) -> None:
    """Run what is planned on the cluster that this process has joined; ModelError if it does not come up."""
    plan.check()
    ray = load_ray()
    from model_runtime.cluster.replica import Replica

    scaling: dict[str, Any] = {"num_replicas": plan.least}
    if plan.most > plan.least:
        scaling = {
            "autoscaling_config": {
                "min_replicas": plan.least,
                "max_replicas": plan.most,
                "target_ongoing_requests": plan.busy,
                "upscale_delay_s": 5.0,
                "downscale_delay_s": 300.0,
            }
        }
    deployment = ray.serve.deployment(
        name="model",
        max_ongoing_requests=max(16, 2 * plan.together),
        ray_actor_options={"num_gpus": plan.gpus, "num_cpus": plan.cpus},
        request_router_config=ray.serve.config.RequestRouterConfig(
            request_router_class="model_runtime.cluster.routing:ByDocument"
        ),
        health_check_period_s=5.0,
        graceful_shutdown_timeout_s=60.0,
        **scaling,
    )(Replica)
    app = deployment.bind(plan.model, plan.keep_context, plan.together, plan.loading)
    try:
        ray.serve.start(proxy_location="Disabled")  # `diffill serve --cluster` is the door
        ray.serve.run(app, name=APP, route_prefix=None)
    except RuntimeError as error:
        raise ModelError(f"the model did not come up: {first_sentence(error)}") from error


def remove() -> None:
    """Take the model from the cluster."""
    load_ray().serve.delete(APP)


def state() -> dict[str, Any]:
    """How the deployment stands: its status, and the number of replicas in each state; empty where there is none."""
    status = load_ray().serve.status().applications.get(APP)
    if status is None:
        return {}
    model = status.deployments.get("model")
    replicas = {} if model is None else {str(name): count for name, count in model.replica_states.items()}
    return {"status": str(status.status.value), "replicas": replicas, "message": status.message}


def first_sentence(error: BaseException) -> str:
    """The last line of an error's text that is not empty: Ray puts the cause there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__

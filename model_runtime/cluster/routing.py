"""Which replica answers for a document: always the same while it lives, so that the context it encoded serves again.

Replicas are ranked by a hash of document and replica (rendezvous hashing, Thaler and Ravishankar 1996): when one comes
or goes, only the documents that it is first for move. One that has its hands full is passed over for the next.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class ByDocument(RequestRouter):
    """Ranks replicas for the document that is the first argument of a call."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replicas in the order in which they are to be tried."""
        if pending_request is None or not pending_request.args:
            return [candidate_replicas]
        document = pending_request.args[0]
        return [[one] for one in sorted(candidate_replicas, key=lambda one: rank(document, one.replica_id))]


def rank(document: Any, replica: Any) -> bytes:
    """Where a replica stands in a document's order."""
    return hashlib.sha256(f"{document}\0{replica}".encode()).digest()

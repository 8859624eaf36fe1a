"""How a channel balances over replicas itself, where no proxy stands between.

target = "dns:///rapport-service.default.svc.cluster.local:50051"
channel = grpc.insecure_channel(target, options=[("grpc.service_config", SERVICE_CONFIG)])
"""

from __future__ import annotations

import json

UNARY = (
    ("rapport.v1.ChatService", "CreateChatCompletion"),
    ("rapport.v1.ChatService", "Tokenize"),
    ("rapport.v1.CompletionService", "CreateCompletion"),
    ("rapport.v1.ModelService", None),
)

SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Replicas that load or drain get nothing.
        "healthCheckConfig": {"serviceName": "rapport.v1.ChatService"},
        "methodConfig": [
            # Streams are not in it: what has begun to answer is never asked again.
            {
                "name": [
                    {"service": service, "method": method} if method else {"service": service}
                    for service, method in UNARY
                ],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)
"""For the channel option `grpc.service_config`, as gRPC in any language takes it."""

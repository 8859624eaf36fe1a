"""The names of rapport's gRPC services."""

from __future__ import annotations

CHAT_SERVICE = "rapport.v1.ChatService"
MODEL_SERVICE = "rapport.v1.ModelService"
STATUS_SERVICE = "rapport.v1.StatusService"

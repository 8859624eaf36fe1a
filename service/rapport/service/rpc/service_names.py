"""The names of rapport's gRPC services."""

from __future__ import annotations

CHAT_SERVICE = "rapport.v1.ChatService"
COMPLETION_SERVICE = "rapport.v1.CompletionService"
MODEL_SERVICE = "rapport.v1.ModelService"
STATUS_SERVICE = "rapport.v1.StatusService"

# What their methods begin with: they generate text, which is limited by key and in number.
GENERATING = (f"/{CHAT_SERVICE}/", f"/{COMPLETION_SERVICE}/")

"""ModelService: what is served."""

from __future__ import annotations

from typing import Any

import grpc

from rapport.service.errors import ModelNotFoundError
from rapport.service.interceptors import context as request_context
from rapport.service.lifecycle import Lifecycle, ServedModel
from rapport.service.request.model_names import is_among, is_named
from rapport.v1.model_pb2 import (
    GetModelRequest,
    GetModelResponse,
    ListModelsRequest,
    ListModelsResponse,
    Model,
)
from rapport.v1.model_pb2_grpc import ModelServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]

# Fireworks' name for a model as its makers published it.
KIND = "HF_BASE_MODEL"


class ModelService(ModelServiceServicer):
    """One process serves one model."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def ListModels(  # noqa: N802 - named by the proto
        self, _request: ListModelsRequest, _context: Context
    ) -> ListModelsResponse:
        served = self._lifecycle.served
        shown = [served] if is_among(request_context.current().allowed_models, served.model) else []
        return ListModelsResponse(object="list", data=map(described, shown))

    async def GetModel(  # noqa: N802
        self, request: GetModelRequest, _context: Context
    ) -> GetModelResponse:
        served = self._lifecycle.served
        if not is_named(served.model, request.model):
            raise ModelNotFoundError
        return GetModelResponse(model=described(served))


def described(served: ServedModel) -> Model:
    """The model as callers see it."""
    return Model(
        id=served.model,
        object="model",
        created=served.engine.spec.created,
        owned_by=served.engine.spec.owned_by,
        kind=KIND,
        supports_chat=True,
        supports_image_input=False,
        supports_tools=True,
        context_length=served.engine.context_length,
    )

"""ModelService: the models that are served."""

from __future__ import annotations

from rapport.service.errors import ModelNotFoundError
from rapport.service.interceptors import context as request_context
from rapport.service.interceptors.context import GrpcContext
from rapport.service.lifecycle import Lifecycle, ServedModel
from rapport.service.request.model_names import is_named, may_use
from rapport.v1.model_pb2 import (
    GetModelRequest,
    GetModelResponse,
    ListModelsRequest,
    ListModelsResponse,
    Model,
)
from rapport.v1.model_pb2_grpc import ModelServiceServicer

# Fireworks' name for a model as its authors published it.
MODEL_KIND = "HF_BASE_MODEL"


class ModelService(ModelServiceServicer):
    """One process serves one model."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def ListModels(  # noqa: N802 - named by the proto
        self, _request: ListModelsRequest, _context: GrpcContext
    ) -> ListModelsResponse:
        served = self._lifecycle.served
        allowed = request_context.current().allowed_models
        names = [name for name in served.names if may_use(allowed, name, served.names)]
        models = (_model(served, name) for name in names)
        return ListModelsResponse(object="list", data=models)

    async def GetModel(  # noqa: N802
        self, request: GetModelRequest, _context: GrpcContext
    ) -> GetModelResponse:
        served = self._lifecycle.served
        for name in served.names:
            if is_named(name, request.model):
                return GetModelResponse(model=_model(served, name))
        raise ModelNotFoundError(*served.names)


def _model(served: ServedModel, name: str) -> Model:
    """The model in the form of the API, by one of its names."""
    return Model(
        id=name,
        object="model",
        created=served.engine.spec.created,
        owned_by=served.engine.spec.owned_by,
        kind=MODEL_KIND,
        supports_chat=True,
        supports_image_input=False,
        supports_tools=True,
        context_length=served.engine.context_length,
    )

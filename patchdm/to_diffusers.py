"""Let diffusers find the pipeline and its parts by the names in a model_index.json.

`DiffusionPipeline.from_pretrained` knows the pipelines that are attributes of diffusers, and those
libraries that stand in its table; it imports no other on a file's word, nor need it: once
`patchdm.pipeline` is imported, both know ours.
"""

from __future__ import annotations

import inspect
from typing import TypeVar

import diffusers
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from patchdm import models

_Pipeline = TypeVar("_Pipeline", bound=type[DiffusionPipeline])


def known_to_diffusers(pipeline: _Pipeline) -> _Pipeline:
    """Add a pipeline to diffusers, and the modules of our networks, which then may be its parts."""
    setattr(diffusers, pipeline.__name__, pipeline)
    methods = {"ModelMixin": ["save_pretrained", "from_pretrained"]}
    for part in vars(models).values():
        if inspect.isclass(part) and issubclass(part, ModelMixin):
            LOADABLE_CLASSES.setdefault(part.__module__, methods)
    return pipeline

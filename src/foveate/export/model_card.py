# SPDX-License-Identifier: Apache-2.0
"""The model card of a bundle: ``README.md``, with the metadata that the Hugging Face Hub reads."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from foveate.bundle import Manifest, TensorSpec

_FRONT_MATTER = """\
---
license: {license}
library_name: foveate
pipeline_tag: image-segmentation
tags: [foveate, onnx, instance-segmentation, object-proposals]"""
_INTRODUCTION = """\
This bundle of ONNX files {finds} in images. It was exported with Foveate, which runs it
without PyTorch. DeepMask proposes objects{refines}{names}.

## Use

Replace OWNER/NAME by the name of this repository.

```console
$ pip install 'foveate[hub]'
$ foveate run photo.jpg --bundle hf://OWNER/NAME
```

```python
import foveate

pipeline = foveate.load("hf://OWNER/NAME")
detections = pipeline("photo.jpg")
```
"""


def model_card(manifest: Manifest) -> str:
    """Return the text of the model card of a bundle.

    It states what the manifest records. The license is left to the author.
    """
    sections = [
        front_matter(manifest),
        f"# {_text(manifest.name)}\n",
        _introduction(manifest),
        "## Classes\n",
        ", ".join(map(_text, manifest.class_names)) + "\n"
        if manifest.classifies
        else "None: the bundle proposes objects of any class.\n",
        "## Preprocessing\n",
        _table(("step", "value"), _preprocessing(manifest)),
        "## Stages\n",
        _table(("stage", "precision", "MB", "tensor", "dtype", "shape"), _stages(manifest)),
        "## Accuracy\n",
        _accuracy(manifest),
        "## Origin\n",
        _table(("", ""), _origin(manifest)),
    ]
    return "\n".join(sections)


def front_matter(manifest: Manifest, *, license_id: str = "unknown") -> str:
    """Return the metadata of the card: YAML between two lines of dashes.

    Args:
        manifest: Manifest of the bundle.
        license_id: Identifier of the license on the Hub, such as ``apache-2.0``.
    """
    return "\n".join([_FRONT_MATTER.format(license=license_id), *_model_index(manifest), "---", ""])


def _model_index(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of the accuracy figures, in the form of the Hub."""
    figures = _figures(manifest)
    if not figures:
        return
    yield f"model-index:\n  - name: {_scalar(manifest.name)}\n    results:"
    for dataset, measured in figures.items():
        yield "      - task: {type: image-segmentation}"
        yield f"        dataset: {{type: {_scalar(dataset)}, name: {_scalar(dataset)}}}"
        yield "        metrics:"
        for name, value in measured.items():
            kind = re.sub(r"\W+", "_", name).lower()
            yield f"          - {{type: {kind}, name: {_scalar(name)}, value: {value}}}"


def _scalar(text: str) -> str:
    """Return a string in YAML, of which a string in JSON is one, whatever its characters."""
    return json.dumps(text, ensure_ascii=False)


def _introduction(manifest: Manifest) -> str:
    refines = any("sharpmask" in one.name for one in manifest.source.networks)
    return _INTRODUCTION.format(
        finds="finds, outlines and names objects" if manifest.classifies else "outlines objects",
        refines=", SharpMask refines their masks" if refines else "",
        names=", and MultiPathNet names them" if manifest.classifies else "",
    )


def _preprocessing(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    numbers, window = manifest.preprocessing, manifest.windows
    yield "color", "RGB, values 0 to 255"
    yield "longer side of the working image", f"at most {manifest.pyramid.max_side} pixels"
    yield "levels, as scales of it", ", ".join(f"{one:g}" for one in manifest.pyramid.scales)
    yield "normalization", f"(value - {_list(numbers.mean)}) / {_list(numbers.std)}"
    yield "padding", f"{window.padding} pixels of {numbers.fill} around a level"
    yield "windows", f"{window.size} pixels, every {window.stride} pixels of a level"
    yield "windows refined", f"{manifest.select.top_k}, overlap {manifest.select.window_nms_iou:g}"
    if manifest.select.proposal_nms_iou < 1:
        yield "overlap of proposals that are classified", f"{manifest.select.proposal_nms_iou:g}"
    yield "masks", f"{manifest.mask.size} pixels, logits above {manifest.mask.threshold:g}"


def _stages(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    for name, stage in manifest.stages.items():
        size = f"{manifest.files[stage.file].size / 1e6:.2f}" if manifest.files else ""
        first = (name, manifest.precision_of(name), size)
        for role, tensors in (("input", stage.inputs), ("output", stage.outputs)):
            for tensor in tensors:
                yield (*first, f"{role} `{tensor.name}`", tensor.dtype, _shape(tensor))
                first = ("", "", "")


def _shape(tensor: TensorSpec) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _accuracy(manifest: Manifest) -> str:
    rows = [
        (dataset, name, f"{value:.3f}")
        for dataset, measured in _figures(manifest).items()
        for name, value in measured.items()
    ]
    if not rows:
        return "No figures are recorded; `foveate evaluate` measures them on a data set.\n"
    return _table(("data set", "figure", "value"), rows)


def _figures(manifest: Manifest) -> dict[str, dict[str, float]]:
    """Return the figures of all objects, without those of one size or class, by data set."""
    recorded = manifest.provenance.get("accuracy", {})
    return {
        name: {
            key: value
            for key, value in figures.items()
            if isinstance(value, float) and "," not in key
        }
        for name, figures in recorded.items()
        if isinstance(figures, Mapping)
    }


def _origin(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    for network in manifest.source.networks:
        sizes = ", ".join(f"{key} {value}" for key, value in network.sizes.items())
        yield "network", f"{network.name}{f' ({sizes})' if sizes else ''}"
    if manifest.source.svd:
        yield "ranks of the towers", _list(manifest.source.svd)
    if manifest.source.optimize:
        yield "passes", ", ".join(manifest.source.optimize)
    for key, value in manifest.provenance.get("training", {}).items():
        yield f"training, {key}", _words(value)
    yield from manifest.provenance.get("tools", {}).items()
    yield "weights, SHA-256", f"`{manifest.provenance.get('weights_sha256', '')}`"


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(one)}" for key, one in value.items())
    return str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(map(_text, line))} |\n" for line in lines)


def _list(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{one:g}' for one in values)})"


def _text(text: str) -> str:
    """Return a name or value on one line, without characters that Markdown or HTML interpret."""
    return re.sub(r"([|<&])", r"\\\1", " ".join(text.split()))

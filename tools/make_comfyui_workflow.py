"""Write ComfyUI's example workflow from the nodes' own inputs; a test checks that it is current."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "comfyui" / "example_workflows" / "dub-video.json"
sys.path.insert(0, str(ROOT))

WIDGETS = ("BOOLEAN", "FLOAT", "INT", "STRING")
# ComfyUI's own nodes: what their widgets hold, the names and kinds of what goes in, and of what comes out.
THEIRS: dict[str, tuple[list[Any], list[tuple[str, str]], list[str]]] = {
    "LoadVideo": (["film.mp4", "image"], [], ["VIDEO"]),
    "LoadAudio": (["speech.wav", None, None], [], ["AUDIO"]),
    "SaveVideo": (["video/dubbed", "auto", "auto"], [("video", "VIDEO")], []),
    "PreviewAny": ([], [("source", "*")], []),
}
NODES = ("LoadVideo", "LoadAudio", "UniSyncFindFaces", "UniSyncDubVideo", "SaveVideo", "PreviewAny")
# from node, its output, to node, its input
LINKS = ((1, 0, 3, 0), (1, 0, 4, 0), (2, 0, 4, 1), (3, 2, 4, 2), (4, 0, 5, 0), (4, 1, 6, 0))


def workflow() -> dict[str, Any]:
    """Return the workflow as ComfyUI saves one: find the faces, dub with what was found, save."""
    nodes = [_node(number, kind) for number, kind in enumerate(NODES, 1)]
    links = []
    for number, (start, output, end, slot) in enumerate(LINKS, 1):
        source, target = nodes[start - 1]["outputs"][output], nodes[end - 1]["inputs"][slot]
        source["links"].append(number)
        target["link"] = number
        links.append([number, start, output, end, slot, source["type"]])
    about = {"last_node_id": len(nodes), "last_link_id": len(links), "groups": [], "config": {}, "extra": {}}
    return {**about, "nodes": nodes, "links": links, "version": 0.4}


def page() -> str:
    """Return the file as the code has it now."""
    return json.dumps(workflow(), indent=1) + "\n"


def _node(number: int, kind: str) -> dict[str, Any]:
    values, inputs, outputs = THEIRS[kind] if kind in THEIRS else _ours(kind)
    return {
        "id": number,
        "type": kind,
        "pos": [40 + 380 * ((number - 1) // 2), 60 + 420 * ((number - 1) % 2)],
        "size": [340, 380],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [{"name": name, "type": sort, "link": None} for name, sort in inputs],
        "outputs": [{"name": sort, "type": sort, "links": []} for sort in outputs],
        "properties": {"Node name for S&R": kind},
        "widgets_values": values,
    }


def _ours(kind: str) -> tuple[list[Any], list[tuple[str, str]], list[str]]:
    from comfyui import NODE_CLASS_MAPPINGS

    node: Any
    node, values, inputs = NODE_CLASS_MAPPINGS[kind], list[Any](), list[tuple[str, str]]()
    every = node.INPUT_TYPES()
    for name, (sort, about) in {**every["required"], **every["optional"]}.items():
        if isinstance(sort, list) or sort in WIDGETS:
            values.append(about["default"])
            values += ["fixed"] * (name == "seed")  # ComfyUI puts a widget of its own behind every seed
        else:
            inputs.append((name, sort))
    return values, inputs, list(node.RETURN_TYPES)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"written: {PAGE.name}")

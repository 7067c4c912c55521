"""Nodes for ComfyUI. This folder goes into, or is linked from, ComfyUI's custom_nodes; README.md says how."""

from .nodes import DubFrames, DubVideo, FindFaces

NODE_CLASS_MAPPINGS = {"UniSyncDubVideo": DubVideo, "UniSyncDubFrames": DubFrames, "UniSyncFindFaces": FindFaces}
NODE_DISPLAY_NAME_MAPPINGS = {
    "UniSyncDubVideo": "UniSync: dub video",
    "UniSyncDubFrames": "UniSync: dub frames",
    "UniSyncFindFaces": "UniSync: find faces",
}
__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

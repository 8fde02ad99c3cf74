"""Data sources by name: a function and one line each.

A source is `load(root, preprocessor, *, option=default, ...) -> LabeledImages`.
"""

from vlfew.core.registry import Registry

SOURCES = Registry(
    "data source",
    {
        "glyphs": "vlfew.data.sources.glyphs:load",
        "glyph_pages": "vlfew.data.sources.glyph_pages:load",
        "coco": "vlfew.data.sources.coco:load",
        "omniglot": "vlfew.data.sources.omniglot:load",
        "lfw": "vlfew.data.sources.lfw:load",
        "pairs": "vlfew.data.sources.pairs:load",
        "mini_imagenet": "vlfew.data.sources.mini_imagenet:load",
        "cifar_fs": "vlfew.data.sources.cifar100:load_cifar_fs",
        "fc100": "vlfew.data.sources.cifar100:load_fc100",
        "folder": "vlfew.data.sources.folder:load",
        "captions": "vlfew.data.sources.captions:load",
        "flickr8k": "vlfew.data.sources.flickr:load_flickr8k",
        "flickr30k": "vlfew.data.sources.flickr:load_flickr30k",
        "combined": "vlfew.data.sources.combined:load",
        "att_faces": "vlfew.data.sources.att_faces:load",
        "mnist": "vlfew.data.sources.mnist:load",
        "hf:": "vlfew.data.sources.huggingface:load",
    },
)

WITH_BOXES = frozenset({"glyph_pages", "coco"})
"""Sources of images with several objects, each in a box."""

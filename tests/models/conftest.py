"""The tiny open_clip folder of the encoders' tests."""

from tests.encoders.conftest import clip_folder

__all__ = ["clip_folder"]

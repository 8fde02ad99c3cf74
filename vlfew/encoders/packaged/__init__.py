"""Pretrained towers whose weights ordinary Python packages carry: no hub and no download at run time."""

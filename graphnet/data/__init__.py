"""Data sets and batching: ``mnist``, ``housing``, ``shakespeare`` and three that need no network.

The sets that lie in files are looked for in ``data_dir``, then in ``$GRAPHNET_DATA``, then in the cache
(``$GRAPHNET_CACHE/data``, or ``data`` in the platform's cache folder for graphnet), and downloaded into that
cache when none of them has the file. Every folder has the same layout::

    mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz
    housing/housing.data
    shakespeare/100.txt
    shakespeare/tinyshakespeare.txt
"""

from graphnet.data.batching import Minibatches, Sequences, minibatches, sequences
from graphnet.data.images import digits, mnist
from graphnet.data.on_device import OnDevice, on_device
from graphnet.data.records import Dataset, Text
from graphnet.data.registry import NAMES, load
from graphnet.data.tables import diabetes, housing
from graphnet.data.texts import python_topics, shakespeare

__all__ = [
    "NAMES",
    "Dataset",
    "Minibatches",
    "OnDevice",
    "Sequences",
    "Text",
    "diabetes",
    "digits",
    "housing",
    "load",
    "minibatches",
    "mnist",
    "on_device",
    "python_topics",
    "sequences",
    "shakespeare",
]

"""A trained model at work on any picture: from an image, or thousands of files, to objects.

``load_predictor`` gives a function from an image to a :class:`result.Result`; ``tools/predict.py``
is the same over files.
"""

from .predictor import Predictor, load_predictor
from .result import Result

__all__ = ["Predictor", "Result", "load_predictor"]

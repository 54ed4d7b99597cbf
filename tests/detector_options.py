"""Options that train in seconds."""

from sppnet.detector.config import DetectOptions, FeatureOptions, SVMOptions, TrainOptions

SMALL = {
    "backbone": "squeezenet1_1",
    "weights": "none",
    "features": FeatureOptions(scales=(128, 192), levels=(1, 2, 4)),
    "detection": DetectOptions(max_windows=150),
    "svm": SVMOptions(retrain_after=100, start_negatives=60, max_gigabytes=0.05),
    "options": TrainOptions(held_out=0.25),
    "quiet": True,
}

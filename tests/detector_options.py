"""Options that train in seconds."""

from sppnet.detector.options import DetectOptions, FeatureOptions, FineTuneOptions, SVMOptions, TrainOptions

SMALL = {
    "backbone": "squeezenet1_1",
    "weights": "none",
    "features": FeatureOptions(scales=(128, 192), levels=(1, 2, 4)),
    "detection": DetectOptions(max_windows=150),
    "svm": SVMOptions(retrain_after=100, start_negatives=60, max_gigabytes=0.05),
    "options": TrainOptions(held_out=0.25),
    "quiet": True,
}

SMALL_FC = SMALL | {
    "features": FeatureOptions(scales=(128, 192), levels=(1, 2, 4), kind="fc7"),
    "finetune": FineTuneOptions(width=32, epochs=3, batch=16, positives_in_batch=4, batches_in_epoch=1),
}

SMALL_WARP = SMALL | {"features": FeatureOptions(method="warp", crop=64, context=5, levels=(1, 2))}

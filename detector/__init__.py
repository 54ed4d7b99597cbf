"""The SPP-net detector (He et al., ECCV 2014).

Where to find each step of the paper:

======================================= ====================================================================
Section                                 File
======================================= ====================================================================
2.1 convolutions, feature maps          ``convolutions/backbone.py``, ``truncation.py``, ``receptive_field.py``
2.2 spatial pyramid pooling             ``pooling/spp.py``, ``levels.py``; compiled: ``kernel.py``, ``gpu.py``
2.3 training the network, many sizes    ``classification/train.py``, ``descent/``
3.1 classification, many views          ``classification/network.py``, ``places.py``, ``views.py``
3.2, 3.3 SVMs on features of images     ``classification/transfer.py``, ``representation.py``
4.1 one pass, features of windows       ``windows/features.py``
4.1 image scales, the scale of a window ``windows/scales.py``
4.1 SVMs with hard negatives            ``training/mining.py``, ``collecting.py``, ``learners/svm.py``
4.2 fine-tuning of the fc layers        ``training/finetune.py``, ``training/sampling.py``, ``head/``
4.2 box regression                      ``learners/ridge.py``
4.2 detection: scores, suppression      ``detection/detector.py``, ``postprocess.py``
4.3 time; R-CNN's warping beside it     ``windows/warping.py``
4.4 combination of models               ``detection/combination.py``
Appendix A, corners to cells            ``windows/projection.py``
======================================= ====================================================================

Each of the following imports only from those before it: ``values.py``, ``options.py``,
``device.py`` and ``modelfile.py``, ``pooling`` and ``convolutions``, ``head``, ``windows``, ``learners``, ``descent``,
``detection``, ``cluster``, ``training``, ``classification``, ``distillation.py``, ``recipes.py``, ``load.py``.
"""

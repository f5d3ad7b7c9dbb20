#!/usr/bin/env bash
# What one accelerator computes, and how fast: every order of the region equations against the
# equations as they stand, seconds of the blocks and of the training steps at 769 x 769 in bfloat16
# beside PyTorch's DeepLabV3-ResNet101 (if torch and torchvision are installed), and the mean IoU
# of a short training on CamVid. One table, and gpu_check.json. No TensorFlow is needed.
#
# Beforehand, where the data set and the weights are:
#     ranet pack camvid --output camvid.npz --quality 90
#     ranet port FILE --model resnet18 --output weights/resnet18 --allow-missing 'layer4|fc'
# Then, in a clone that has camvid.npz and weights/resnet18, with `pip install '.[cuda]'`:
#     bash launch/gpu_check.sh camvid.npz
# Further arguments go to `ranet bench device`, such as --repeats 3.
set -euo pipefail
arrays=${1:?"usage: launch/gpu_check.sh ARRAYS.npz [options of ranet bench device]"}
shift
# PyTorch needs a part of the memory that JAX would otherwise take whole.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
exec ranet bench device \
    --config configs/ranet_resnet101_cityscapes_769_40k.py \
    --arrays "$arrays" \
    --train-config configs/ranet_resnet18_camvid_200.py \
    --workdir runs/gpu_check \
    --output gpu_check.json \
    "$@"

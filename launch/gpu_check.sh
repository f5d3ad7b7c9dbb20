#!/usr/bin/env bash
# Checks what one accelerator computes, and how fast. It compares every order of the region
# equations with the equations as they stand, times the blocks and the training steps at 769 x 769
# in bfloat16 beside PyTorch's DeepLabV3-ResNet101 (if torch and torchvision are installed), and
# gives the mean IoU of a short training on CamVid. It prints one table and writes gpu_check.json.
# TensorFlow is not needed.
#
# First, on the machine that has the data set and the weights:
#     ranet pack camvid --output camvid.npz --quality 90
#     ranet port FILE --model resnet18 --output weights/resnet18 --allow-missing 'layer4|fc'
# Then, in a clone that has camvid.npz and weights/resnet18, with `pip install '.[cuda]'`:
#     bash launch/gpu_check.sh camvid.npz
# Further arguments, such as --repeats 3, are passed to `ranet bench device`.
set -euo pipefail
arrays=${1:?"usage: launch/gpu_check.sh ARRAYS.npz [options of ranet bench device]"}
shift
# Leave memory for PyTorch: JAX would otherwise reserve most of it.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
exec ranet bench device \
    --config configs/ranet_resnet101_cityscapes_769_40k.py \
    --arrays "$arrays" \
    --train-config configs/ranet_resnet18_camvid_200.py \
    --workdir runs/gpu_check \
    --output gpu_check.json \
    "$@"

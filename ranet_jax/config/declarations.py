"""Every field of the config, declared once: the defaults are those of the paper's network.

`ranet_jax.config` builds configs from this list and checks them against it; `docs/config.md` shows
it. Names of the network's parts, such as those of backbones, are checked where the parts are built.
"""

from typing import Any

from ranet_jax.config.field import Field, Range
from ranet_jax.errors import UserError

# Limits far beyond any network or machine; they keep typing errors from taking up all memory.
PIXELS = Range(1, 2**15, whole=True)
COUNT = Range(1, 10**9, whole=True)
FACTOR = Range(0, 10**6)
FRACTION = Range(0, 1)
SCALE = Range(0.05, 16)

FIELDS: dict[str, Field] = {
    "seed": Field(
        0,
        "training",
        "Number from which initial weights, order, crops and dropout are drawn.",
        Range(0, 2**32 - 1, whole=True),
    ),
    # ---- data ----------------------------------------------------------------------------------
    "data.name": Field("shapes", "training", "Prepared data set."),
    "data.data_dir": Field(
        None, "scores", "Directory of prepared data sets; None for TFDS's default directory."
    ),
    "data.train_split": Field("train", "training", "Split to train on, in TFDS's notation."),
    "data.eval_split": Field("val", "scores", "Split to evaluate on, in TFDS's notation."),
    "data.crop_size": Field(
        (769, 769), "training", "Height and width of training crops in pixels.", PIXELS
    ),
    "data.scale_range": Field(
        (0.5, 2.0),
        "training",
        "Smallest and largest factor by which training images are resized.",
        SCALE,
        ascending=True,
    ),
    "data.flip": Field(True, "training", "Whether to mirror half of the training images."),
    "data.brightness": Field(
        0.0, "training", "Largest shift of brightness, as a fraction of 255.", FRACTION
    ),
    "data.contrast": Field(
        0.0, "training", "Largest change of the contrast factor, which is 1 by default.", FRACTION
    ),
    "data.saturation": Field(
        0.0, "training", "Largest change of the saturation factor, which is 1 by default.", FRACTION
    ),
    "data.hue": Field(
        0.0,
        "training",
        "Largest shift of hue, as a fraction of the circle of hues.",
        Range(0, 0.5),
    ),
    "data.blur": Field(
        0.0,
        "training",
        "Largest standard deviation of a Gaussian blur, in pixels.",
        Range(0, 100),
    ),
    "data.rotation": Field(
        0.0,
        "training",
        "Largest rotation of training images either way, in degrees; pixels from outside of"
        " the image are ignored.",
        Range(0, 180),
    ),
    "data.function": Field(
        None,
        "training",
        "Your own function, as `module:function`, that changes crops"
        " ([augmentation](tutorials/own_data.md#augmentation)).",
    ),
    "data.shuffle_buffer": Field(
        1024,
        "training",
        "Encoded examples in memory from which the next one is drawn.",
        Range(1, 2**24, whole=True),
    ),
    "data.shared_order": Field(
        False,
        "training",
        "Whether a batch holds the same images on any number of hosts; each host then reads the"
        " whole split and decodes its part.",
    ),
    "data.mean": Field(
        (123.675, 116.28, 103.53),
        "training",
        "Mean of red, green and blue (0 to 255), which is subtracted.",
        Range(-1000, 1000),
    ),
    "data.std": Field(
        (58.395, 57.12, 57.375),
        "training",
        "Standard deviation of red, green and blue, by which images are divided.",
        Range(0.001, 1000),
    ),
    "data.channel_order": Field(
        "rgb", "training", "Order of the channels that the network sees.", choices=("rgb", "bgr")
    ),
    # ---- model ---------------------------------------------------------------------------------
    "model.init_from": Field(
        None,
        "scores",
        "Directory of a ported network or a trained model, whose weights training starts from.",
    ),
    "model.init_allow_missing": Field(
        None, "scores", "Regular expression of the parameters that `init_from` may lack."
    ),
    "model.backbone": Field("resnet101", "weights", "Backbone ([networks](configs.md#networks))."),
    "model.stem": Field(
        "conv7",
        "weights",
        "Stem of a ResNet: one 7 x 7 convolution (`conv7`), or three 3 x 3 ones of 64, 64 and 128"
        " channels (`deep`) or of 32, 32 and 64 (`v1c`).",
    ),
    "model.stages": Field(
        4,
        "weights",
        "Number of stages of a ResNet or a MobileNetV2 to build; the first has a stride of 4.",
        Range(1, 4, whole=True),
    ),
    "model.width": Field(
        64, "weights", "Channels of a ResNet's first stage.", Range(1, 2**13, whole=True)
    ),
    "model.dilate_second": Field(
        True,
        "weights",
        "Whether dilated stages of ResNet-18 and 34 dilate both convolutions of a block, not only"
        " the first one as in mmsegmentation.",
    ),
    "model.fusion": Field(
        "nearest",
        "weights",
        "How the branches of an HRNet are enlarged to the size of another: by the `nearest` pixel,"
        " or `bilinear` as in mmsegmentation.",
    ),
    "model.output_stride": Field(
        8,
        "training",
        "Input pixels per feature pixel; which strides are possible depends on the backbone.",
        Range(1, 64, whole=True),
    ),
    "model.dilate_first_block": Field(
        False,
        "weights",
        "Whether the first block of a dilated stage of a ResNet or a MobileNetV2 has the dilation"
        " of the other blocks of the stage, not of the stage before.",
    ),
    "model.read_head": Field(
        False,
        "weights",
        "Whether the last features of a MobileNetV2 are those after its last convolution, of 1,280"
        " channels, not those before it.",
    ),
    "model.context": Field("ranet", "weights", "Context block ([context blocks](context.md))."),
    "model.variant": Field(
        "paper",
        "weights",
        "The block as its paper describes it (`paper`), RANet as its authors' code has it"
        " (`released`), or the block as a library has it (`mmsegmentation` or"
        " `segmentation_models`).",
    ),
    "model.align_corners": Field(
        True,
        "weights",
        "Whether maps are resized with aligned corners: scores to the image, and maps in `psp`,"
        " `deeplabv3plus` and HRNet's last features ([corners](porting.md#corners)).",
    ),
    "model.mask_size": Field(
        (97, 97),
        "weights",
        "Height and width of the mask of offsets around a pixel in `psanet`, in pixels at half the"
        " resolution of the features.",
        Range(1, 2**10, whole=True),
    ),
    "model.channels": Field(
        512, "weights", "Channels of the context block.", Range(1, 2**14, whole=True)
    ),
    "model.num_regions": Field(
        64, "training", "Q, the number of regions that get a slot.", Range(1, 2**14, whole=True)
    ),
    "model.per_region": Field(
        8,
        "training",
        "K, the number of representative pixels per region.",
        Range(1, 2**10, whole=True),
    ),
    "model.threshold": Field(
        0.8, "training", "The threshold of Eq. 4, above which two pixels are linked.", FRACTION
    ),
    "model.kernel_size": Field(
        1,
        "weights",
        "Size k of the kernel of Eq. 4.",
        Range(1, 99, whole=True, odd=True),
    ),
    "model.region_path": Field(
        "auto",
        "running",
        "Order in which Eqs. 1-5 are computed ([cost](cost.md)): the platform's (`auto`),"
        " `streaming` (CPU), `planes` (GPU), `kernel` (TPU), or with tables of all pixel pairs"
        " (`dense`).",
    ),
    "model.region_scores": Field(
        "both", "weights", "Scores that distinguish pixels: `boundary`, `semantic`, or `both`."
    ),
    "model.intra_region": Field(
        True, "weights", "Whether Eqs. 6 and 8 exchange context within regions."
    ),
    "model.inter_region": Field(
        True, "weights", "Whether Eq. 7 exchanges context between regions."
    ),
    "model.aspp_rates": Field(
        (),
        "weights",
        "Dilations of an ASPP in place of the block's first convolution; () for no ASPP.",
        Range(1, 2**10, whole=True),
    ),
    "model.auxiliary": Field(
        False,
        "weights",
        "Whether an earlier stage gives coarse scores where the context block gives none.",
    ),
    "model.dropout": Field(
        0.1, "training", "Share of the channels that are dropped.", Range(0, 1, below=True)
    ),
    "model.dtype": Field(
        "float32",
        "training",
        "Type of activations, `float32` or `bfloat16`; parameters are float32.",
    ),
    # ---- loss ----------------------------------------------------------------------------------
    "loss.fine": Field(1.0, "training", "Weight of the fine scores' loss.", FACTOR),
    "loss.coarse": Field(0.4, "training", "Weight of the coarse scores' loss.", FACTOR),
    "loss.boundary": Field(0.4, "training", "Weight of the boundary scores' loss.", FACTOR),
    "loss.fine_boundary": Field(
        0.2,
        "training",
        "Weight of the fine boundary scores' loss, which only the released RANet has.",
        FACTOR,
    ),
    "loss.boundary_target": Field(
        "cells",
        "training",
        "What boundary scores learn: which feature pixels contain a boundary (`cells`), or a band"
        " along the boundaries of the labels (`pixels`).",
        choices=("cells", "pixels"),
    ),
    "loss.boundary_positive_weight": Field(
        1.0, "training", "Factor of boundary pixels in the losses of boundary scores.", FACTOR
    ),
    "loss.boundary_focus": Field(
        0.0,
        "training",
        "Exponent of the focal loss of boundary scores; 0 for plain cross-entropy.",
        Range(0, 100),
    ),
    "loss.branches": Field(
        1.0, "training", "Weight of the loss of each branch, which only DANet has.", FACTOR
    ),
    "loss.lovasz": Field(
        0.0,
        "training",
        "Weight of the Lovász-softmax loss of the fine scores, which stands for 1 - IoU.",
        FACTOR,
    ),
    "loss.class_weights": Field(
        (),
        "training",
        "Factor of each class's pixels in the cross-entropy of fine and coarse scores; () for 1.",
        FACTOR,
    ),
    # ---- optimizer -----------------------------------------------------------------------------
    "optimizer.learning_rate": Field(
        0.001,
        "training",
        "Learning rate after the warm-up, from which it falls to 0.",
        Range(0, 1000, above=True),
    ),
    "optimizer.momentum": Field(0.9, "training", "Momentum of SGD.", Range(0, 1, below=True)),
    "optimizer.weight_decay": Field(5e-4, "training", "Weight decay of kernels.", Range(0, 100)),
    "optimizer.power": Field(
        1.0,
        "training",
        "Exponent of the learning rate's decay: 1 for a linear one.",
        Range(0, 100),
    ),
    "optimizer.warmup_steps": Field(
        0,
        "training",
        "Steps in which the learning rate rises from 0.",
        Range(0, 10**9, whole=True),
    ),
    "optimizer.lr_multipliers": Field(
        (),
        "training",
        "Regular expressions of parameter paths, each with a factor on the learning rate of the"
        " parameters that it matches; a factor of 0 freezes them.",
        FACTOR,
        pairs=True,
    ),
    "optimizer.clip_norm": Field(
        None,
        "training",
        "Largest norm of the gradient, to which larger ones are scaled down; None for no limit.",
        Range(0, 10**9, above=True),
    ),
    "optimizer.ema_decay": Field(
        None,
        "training",
        "Decay of a moving average of the parameters, which evaluation then uses; None for no"
        " average.",
        Range(0, 1, below=True),
    ),
    # ---- train ---------------------------------------------------------------------------------
    "train.steps": Field(
        40_000, "training", "Steps of the whole training, over which the rate decays.", COUNT
    ),
    "train.batch_size": Field(
        8,
        "training",
        "Crops per step, over all devices of all hosts.",
        Range(1, 2**20, whole=True),
    ),
    "train.microbatches": Field(
        1,
        "training",
        "Number of parts into which each device's share of a batch is divided; they are computed"
        " one after another and their gradients are added.",
        Range(1, 2**20, whole=True),
    ),
    "train.max_device_batch": Field(
        None,
        "training",
        "Most crops that a device takes at once: if fewer devices share the batch, it is divided"
        " into more parts; None for no limit.",
        Range(1, 2**20, whole=True),
    ),
    "train.parallel": Field(
        "pmap",
        "running",
        "How a step is mapped over devices.",
        choices=("pmap", "shard_map"),
    ),
    "train.log_every": Field(50, "running", "Steps between two reports of the losses.", COUNT),
    "train.eval_every": Field(2000, "running", "Steps between two evaluations.", COUNT),
    "train.patience": Field(
        0,
        "scores",
        "Evaluations in a row without a better mean IoU after which training stops; 0 for never.",
        Range(0, 10**9, whole=True),
    ),
    "train.checkpoint_every": Field(1000, "running", "Steps between two checkpoints.", COUNT),
    "train.keep_checkpoints": Field(
        3,
        "running",
        "Number of latest checkpoints to keep, besides the best.",
        Range(1, 10**6, whole=True),
    ),
    # ---- eval ----------------------------------------------------------------------------------
    "eval.batch_size": Field(
        8, "running", "Images per batch on each host.", Range(1, 2**20, whole=True)
    ),
    "eval.mode": Field(
        "whole",
        "scores",
        "Whether the network sees the image as a whole or through a sliding window.",
        choices=("whole", "slide"),
    ),
    "eval.crop_size": Field(
        (769, 769), "scores", "Height and width of the sliding window in pixels.", PIXELS
    ),
    "eval.stride_ratio": Field(
        2 / 3,
        "scores",
        "Stride of the sliding window, as a fraction of the window.",
        Range(0.05, 1),
    ),
    "eval.scales": Field(
        (1.0,), "scores", "Factors by which images are resized; their scores are averaged.", SCALE
    ),
    "eval.flip": Field(False, "scores", "Whether to average with the scores of mirror images."),
    "eval.regions": Field(
        True, "running", "Whether to count or draw regions, in a separate pass if necessary."
    ),
}


def check_value(name: str, value: Any) -> None:
    """Raise `UserError` unless the field with a dotted name accepts a value."""
    field = FIELDS[name]
    fault = field.fault(value)
    if fault is not None:
        raise UserError(f"config.{name} {fault}; choose {field.allowed}.")

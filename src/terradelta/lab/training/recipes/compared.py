"""The compared methods, each with its own paper's optimiser, schedule and loss, on any archive of the comparisons.

A name is ``METHOD_ARCHIVE``, e.g. ``snunet32_cdd``; from Python, ``snunet32(CDD)``. What a docstring calls printed or
released was read in the authors' code; what is ours, because neither we nor they state it, is called so. All of them
take crops of 256 x 256 pixels, the size at which the papers compare, and are run by

    terradelta train METHOD_ARCHIVE --data DIR -o RUN

None was run here: how long they take and what they score is not known. The authors used one GPU.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from terradelta.lab.evaluation import Scoring
from terradelta.lab.training.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    Optimiser,
    Recipe,
    Schedule,
)
from terradelta.lab.training.recipes.paper_data import LEVIR, TrainingData, paper_recipe

__all__ = [
    "COMPARED",
    "bit",
    "dasnet",
    "fc_ef",
    "fc_siam_conc",
    "fc_siam_diff",
    "ifn",
    "sfearnet",
    "snunet16",
    "snunet32",
    "snunet48",
    "stanet_bam",
    "stanet_base",
    "stanet_pam",
    "unetpp_msof",
]

HALF: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
UNSHIFTED: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
"""Values from 0 to 1 as they are."""
UNSCALED: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
"""Values from 0 to 255 as they are stored."""
NEARLY_0 = 1e-3
"""Standard deviation of a blur that changes nothing, pixels."""
IMAGENET: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def fc_ef(data: TrainingData = LEVIR) -> Recipe:
    """FC-EF: 50 epochs of 32 pairs, Adam at 1e-3 falling by 5 % an epoch, weight decay 1e-4, weighted likelihood.

    Released for patches of 96 x 96 pixels of OSCD: turns and flips, each image scaled by its own mean and deviation. A
    card holds one mean and deviation for all images, so those of the training crops are measured.
    """
    return _fc("fc_ef", data)


def fc_siam_conc(data: TrainingData = LEVIR) -> Recipe:
    """FC-Siam-conc: trained as `fc_ef`."""
    return _fc("fc_siam_conc", data)


def fc_siam_diff(data: TrainingData = LEVIR) -> Recipe:
    """FC-Siam-diff: trained as `fc_ef`."""
    return _fc("fc_siam_diff", data)


def _fc(network: str, data: TrainingData) -> Recipe:
    return paper_recipe(
        network,
        data,
        network=network,
        loss="fc",
        loss_args={"modifier": 10.0},
        augmentation=Augmentation.only(orientations="all"),
        epochs=50,
        batch_size=32,
        optimiser=Optimiser("adam", decay_all=True),
        schedule=Schedule("step", factor=0.95, period=1 / 50),
        lr=1e-3,
        weight_decay=1e-4,
    )


def unetpp_msof(data: TrainingData = LEVIR) -> Recipe:
    """UNet++_MSOF: Adam at 1e-4, five outputs with weights 0.5, 0.5, 0.75, 0.5 and 1, L2 of 1e-4 on kernels.

    Released for Keras, whose L2 term has the gradient ``2e-4 w``: in torch a weight decay of 2e-4. 50 epochs of 8
    pairs, with flips, turns and changes of scale, are recalled and not verified; how far the scale went, and values
    from 0 to 1, are ours.
    """
    return paper_recipe(
        "unetpp_msof",
        data,
        network="unetpp_msof",
        loss="msof",
        **UNSHIFTED,
        zoom=(("", 0.8, 1.25),),
        augmentation=Augmentation.only(orientations="all"),
        epochs=50,
        batch_size=8,
        optimiser=Optimiser("adam"),
        schedule=Schedule("constant"),
        lr=1e-4,
        weight_decay=2e-4,
    )


def dasnet(data: TrainingData = LEVIR) -> Recipe:
    """DASNet on ResNet-50: 60 epochs of 12 pairs, Adam at 1e-4, a tenth after every 20,000 steps, no augmentation.

    Released with blue before red and a mean of each date; torchvision's weights want red first and ImageNet's mean and
    deviation, so these are taken. The paper starts from ImageNet, the released code does not. Weight decay 5e-5. The
    loss is the paper's, with class weights; ``wdmc_released`` is that of the code, without.
    """
    recipe = paper_recipe(
        "dasnet",
        data,
        network="dasnet",
        encoder_weights="resnet50",
        loss="wdmc",
        **IMAGENET,
        augmentation=Augmentation.only(),
        epochs=60,
        batch_size=12,
        optimiser=Optimiser("adam", decay_all=True),
        lr=1e-4,
        weight_decay=5e-5,
    )
    return replace(recipe, schedule=Schedule("step", factor=0.1, period=min(1.0, 20_000 / recipe.steps)))


def stanet_base(data: TrainingData = LEVIR) -> Recipe:
    """STANet without attention: 100 epochs at 1e-3, 100 more falling to 0, Adam with β1 = 0.5, 8 pairs.

    Released: rotation by 0 to 15°, counterclockwise, without flips (the flag for them is set whatever the README's
    command says), mean and deviation 0.5, ResNet-18 from ImageNet, batch-balanced contrastive loss. There a turned tile
    grows and a crop is cut anywhere from it; here the crop turns about its middle. The paper has 4 pairs a step.
    """
    return _stanet("base", data)


def stanet_bam(data: TrainingData = LEVIR) -> Recipe:
    """STANet with basic attention (BAM): trained as `stanet_base`."""
    return _stanet("bam", data)


def stanet_pam(data: TrainingData = LEVIR) -> Recipe:
    """STANet with pyramid attention (PAM): trained as `stanet_base`."""
    return _stanet("pam", data)


def _stanet(attention: str, data: TrainingData) -> Recipe:
    return paper_recipe(
        f"stanet_{attention}",
        data,
        network="stanet",
        network_args={"attention": attention},
        encoder_weights="resnet18",
        loss="bcl",
        **HALF,
        augmentation=Augmentation.only(rotation_deg=(0.0, 15.0), p_rotation=1.0),
        epochs=200,
        batch_size=8,
        optimiser=Optimiser("adam", betas=(0.5, 0.999)),
        schedule=Schedule("linear", hold=100 / 200),
        lr=1e-3,
        weight_decay=0.0,
    )


def snunet16(data: TrainingData = LEVIR) -> Recipe:
    """SNUNet of width 16: 100 epochs of 16 pairs, AdamW at 1e-3 halved every 8 epochs, cross-entropy and Dice.

    Released: flips and turns, values from 0 to 255 as they are stored (the authors note that a mean and deviation
    hurt), weight decay 0.01. Dice is one for each image column there and over the batch here, see ``ce_dice``. ECAM
    pools by mean and maximum, as printed; the paper's scores were made with ``ecam_pool="mean"``, see the network.
    """
    return _snunet(16, data)


def snunet32(data: TrainingData = LEVIR) -> Recipe:
    """SNUNet of width 32, the paper's own: trained as `snunet16`."""
    return _snunet(32, data)


def snunet48(data: TrainingData = LEVIR) -> Recipe:
    """SNUNet of width 48: trained as `snunet16`."""
    return _snunet(48, data)


def _snunet(width: int, data: TrainingData) -> Recipe:
    return paper_recipe(
        f"snunet{width}",
        data,
        network="snunet",
        network_args={"width": width},
        loss="ce_dice",
        **UNSCALED,
        augmentation=Augmentation.only(orientations="all"),
        epochs=100,
        batch_size=16,
        optimiser=Optimiser("adamw", decay_all=True),
        schedule=Schedule("step", factor=0.5, period=8 / 100),
        lr=1e-3,
        weight_decay=0.01,
        seed=777,
    )


def ifn(data: TrainingData = LEVIR) -> Recipe:
    """IFN: Adam at 1e-4, a tenth on a plateau of 5 epochs, ended after 20 epochs without a better F1.

    VGG16 from ImageNet stays as it is; five scales are supervised alike by cross-entropy and Dice, on labels of full
    size where the released Keras code resizes them to each scale. Flips, turns, noise and blur; the authors blur the
    first date only, we either. 8 pairs, at most 100 epochs and ImageNet's mean and
    deviation are ours. The paper trains DSIFN on 512 x 512 pixels, the others on 256 x 256.
    """
    side = 512 if data.key == "dsifn" else 256
    return paper_recipe(
        "ifn",
        replace(data, crops=data.crops * 256**2 // side**2),
        network="ifn",
        network_args={"freeze_encoder": True},
        encoder_weights="vgg16",
        loss="ifn",
        **IMAGENET,
        crop_px=side,
        validation=Scoring("patches", side),
        augmentation=Augmentation.only(orientations="all", p_noise=0.2, p_blur=0.2),
        epochs=100,
        batch_size=8,
        optimiser=Optimiser("adam"),
        schedule=Schedule("plateau", factor=0.1, patience=5),
        lr=1e-4,
        weight_decay=0.0,
        patience=20,
    )


def bit(data: TrainingData = LEVIR) -> Recipe:
    """BIT: 200 epochs of 8 pairs, SGD at 0.01 falling in a straight line to 0, weight decay 5e-4, cross-entropy.

    Released: momentum 0.9 (the paper prints 0.99, as we recall), flips, cutting at a scale of up to 1.2, mean and
    deviation 0.5, and always a Gaussian blur, of one radius from 0 to 1 pixel for both dates. The code loads ImageNet
    weights and then overwrites them, so the encoder starts from random ones; set ``encoder_weights="resnet18"`` for
    what the paper describes.
    """
    return paper_recipe(
        "bit",
        data,
        network="bit",
        loss="cross_entropy",
        **HALF,
        zoom=(("", 1 / 1.2, 1.0),),
        augmentation=Augmentation.only(orientations="flips", p_blur=1.0, blur_px=(NEARLY_0, 1.0), blur_dates="both"),
        epochs=200,
        batch_size=8,
        optimiser=Optimiser("sgd", momentum=0.9, decay_all=True),
        schedule=Schedule("linear"),
        lr=0.01,
        weight_decay=5e-4,
    )


def sfearnet(data: TrainingData = LEVIR) -> Recipe:
    """SFEARNet b0: 100 epochs of 8 pairs, AdamW at 1e-4 halved on a plateau of 6 epochs, weight decay 1e-3.

    Released: loss of IoU, cross-entropy and edges; values from 0 to 1; flips, and in three of ten crops a turn by an
    angle from 0 to 360°, drawn once for the whole run, where we draw one for each. The plateau there is of the
    validation loss, here of F1. The released code starts from MiT-b0's ImageNet weights and hands blue to them first.
    We may not bring that file along: give it as ``encoder_weights`` (``mit_b0.pth`` of SegFormer or
    ``b0_backbone_weights.pth``, see `lab.networks.pretrained.initialise_encoder`); without it the encoder starts
    random.
    """
    return paper_recipe(
        "sfearnet",
        data,
        network="sfearnet",
        loss="sfear",
        **UNSHIFTED,
        augmentation=Augmentation.only(orientations="flips", rotation_deg=(0.0, 360.0), p_rotation=0.3),
        epochs=100,
        batch_size=8,
        optimiser=Optimiser("adamw", decay_all=True),
        schedule=Schedule("plateau", factor=0.5, patience=6),
        lr=1e-4,
        weight_decay=1e-3,
    )


COMPARED: tuple[Callable[[TrainingData], Recipe], ...] = (
    *(fc_ef, fc_siam_conc, fc_siam_diff, unetpp_msof, dasnet, stanet_base, stanet_bam, stanet_pam),
    *(snunet16, snunet32, snunet48, ifn, bit, sfearnet),
)
"""The methods: each gives its recipe on an archive."""

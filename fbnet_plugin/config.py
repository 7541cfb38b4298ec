"""Every config key that this project adds to Detectron2's, with its default."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_fbnet_config(cfg: CfgNode) -> None:
    """Adds the project's keys to a Detectron2 config; call it before ``merge_from_file``.

    Args:
        cfg: as from ``detectron2.config.get_cfg()``; changed in place. A second call changes nothing.
    """
    if "FBNET" in cfg.MODEL:
        return
    _add_backbone(cfg)
    _add_classification(cfg)
    _add_training(cfg)
    _add_supernet(cfg)
    _add_dnas(cfg)
    _add_nars(cfg)


def _add_backbone(cfg: CfgNode) -> None:
    from detectron2.config import CfgNode as CN

    # ---------------------------------------------------------------------------------------
    # Backbone: MODEL.BACKBONE.NAME build_fbnet_backbone, build_fbnet_fpn_backbone or
    # build_fbnet_retinanet_backbone
    # ---------------------------------------------------------------------------------------
    cfg.MODEL.FBNET = CN()
    # Name of an architecture in the zoo (tools/list_archs.py), or path of an architecture file.
    cfg.MODEL.FBNET.ARCH = "fbnet_v3_a"
    # Factor on all channels; 1.0 leaves every width as published.
    cfg.MODEL.FBNET.WIDTH_MULT = 1.0
    # "published": depthwise padding as in the architecture file (FBNetV3-A, B, C, E and F shrink their
    # maps faster than the strides say); "same": kernel // 2 everywhere, which a detector needs.
    cfg.MODEL.FBNET.PADDING = "same"
    # Normalization: BN, SyncBN, FrozenBN, GN, another name that Detectron2 knows, or "" for none.
    cfg.MODEL.FBNET.NORM = "BN"
    # Features that the backbone returns. trunk{i} is the output of stage i; in the zoo trunk0..trunk4
    # have strides 2, 4, 8, 16 and 32. Empty: the last stage. Stages after the last one named are not
    # built. The FPN backbones return MODEL.FPN.IN_FEATURES and do not read this.
    cfg.MODEL.FBNET.OUT_FEATURES = []
    # Number of leading stages without gradients and with frozen statistics; 0 trains everything.
    cfg.MODEL.FBNET.FREEZE_AT = 0
    # Stochastic depth: probability that the last block drops its residual branch, linear in depth.
    cfg.MODEL.FBNET.DROP_PATH = 0.0
    # Copies of the last stride-16 row in FBNetRPNHead; 0 is as many as the row itself has.
    cfg.MODEL.FBNET.RPN_REPEAT = 0

    # A network of torchvision instead: MODEL.BACKBONE.NAME build_torchvision_backbone. Of MODEL.FBNET it reads NORM,
    # OUT_FEATURES, DROP_PATH (for networks with residual blocks) and FREEZE_AT.
    cfg.MODEL.TORCHVISION = CN()
    # A name of torchvision.models, such as alexnet, resnet50, resnext101_32x8d or densenet201.
    cfg.MODEL.TORCHVISION.NAME = "resnet50"


def _add_classification(cfg: CfgNode) -> None:
    from detectron2.config import CfgNode as CN

    # ---------------------------------------------------------------------------------------
    # Image classification: MODEL.META_ARCHITECTURE ImageClassifier
    # ---------------------------------------------------------------------------------------
    cfg.MODEL.CLASSIFIER = CN()
    # Number of classes.
    cfg.MODEL.CLASSIFIER.NUM_CLASSES = 1000
    # Dropout probability before the last linear layer (FBNet appendix A: 0.2).
    cfg.MODEL.CLASSIFIER.DROPOUT = 0.0
    # Label smoothing of the cross entropy.
    cfg.MODEL.CLASSIFIER.LABEL_SMOOTHING = 0.0
    # Mixup: alpha of the distribution Beta(alpha, alpha) of an image's share; 0 mixes nothing.
    cfg.MODEL.CLASSIFIER.MIXUP = 0.0

    # Distillation of an ImageClassifier (FBNetV3 section 4.2): to the cross entropy comes the divergence from what a
    # frozen teacher says of the same images. The teacher is no part of the model or of its checkpoints.
    cfg.MODEL.DISTILLATION = CN()
    cfg.MODEL.DISTILLATION.ENABLED = False
    # Config file of the teacher, any that describes an ImageClassifier with the same classes; its path or its name, as
    # for tools/train_net.py. Empty: this config's own model (self-distillation).
    cfg.MODEL.DISTILLATION.TEACHER_CONFIG = ""
    # KEY VALUE pairs on top of that file.
    cfg.MODEL.DISTILLATION.TEACHER_OPTS = []
    # Checkpoint of the teacher.
    cfg.MODEL.DISTILLATION.TEACHER_WEIGHTS = ""
    # Factors on the divergence and on the cross entropy (section 4.2: 0.8 and 0.2).
    cfg.MODEL.DISTILLATION.SOFT_WEIGHT = 0.8
    cfg.MODEL.DISTILLATION.HARD_WEIGHT = 0.2
    # Both sets of logits are divided by it, and the divergence is multiplied by its square (arXiv:1503.02531). The
    # paper does not publish one; 1 is the plain divergence.
    cfg.MODEL.DISTILLATION.TEMPERATURE = 1.0
    # px that the training images are resized to for the teacher; 0 leaves them as the student sees them.
    cfg.MODEL.DISTILLATION.TEACHER_SIZE = 0
    # Folder of the teacher's logits for the training set, one view per image: filled before the first iteration where
    # it is empty, and read instead of running the teacher. Empty: the teacher sees what the student sees, which
    # distils better and takes longer.
    cfg.MODEL.DISTILLATION.CACHE = ""

    # Input of the classifier. Flips are INPUT.RANDOM_FLIP ("horizontal" or "none"), channel order is
    # INPUT.FORMAT, normalization is MODEL.PIXEL_MEAN and MODEL.PIXEL_STD, as for detectors.
    cfg.INPUT.CLASSIFICATION = CN()
    # px of the square training crop; 0 is the architecture's resolution.
    cfg.INPUT.CLASSIFICATION.TRAIN_SIZE = 0
    # px of the square test crop; 0 is the architecture's resolution.
    cfg.INPUT.CLASSIFICATION.TEST_SIZE = 0
    # px of the short side before the test crop; 0 is the architecture's published value.
    cfg.INPUT.CLASSIFICATION.TEST_RESIZE = 0
    # Area of the random resized crop, as fractions of the image.
    cfg.INPUT.CLASSIFICATION.CROP_AREA = [0.08, 1.0]
    # Aspect ratio (width / height) of the random resized crop.
    cfg.INPUT.CLASSIFICATION.CROP_ASPECT = [0.75, 1.3333333333333333]
    # Augmentation after crop and flip: "autoaugment" (ImageNet's policy), "autoaugment-cifar10", "autoaugment-svhn",
    # "randaugment", "trivialaugment", or "" for none. What a moved image leaves empty gets the colour MODEL.PIXEL_MEAN.
    cfg.INPUT.CLASSIFICATION.AUTO_AUGMENT = ""
    # Of RandAugment: operations per image, and their strength, 0 to 30.
    cfg.INPUT.CLASSIFICATION.RAND_AUGMENT_OPS = 2
    cfg.INPUT.CLASSIFICATION.RAND_AUGMENT_MAGNITUDE = 9

    # Image folders to register, each "name=path": path holds one folder of images per class. A path
    # that is not absolute is below the folder that the environment variable DETECTRON2_DATASETS names.
    cfg.DATASETS.IMAGE_FOLDERS = []
    # COCO-format sets to register, each "name=annotations.json:image_folder", paths as above.
    cfg.DATASETS.COCO_JSON = []


def _add_training(cfg: CfgNode) -> None:
    from detectron2.config import CfgNode as CN

    # What tools/train_net.py starts: FBNetTrainer, DNASTrainer for a supernet, or another name that stands in
    # fbnet_plugin.engine.TRAINER_REGISTRY.
    cfg.TRAINER = "FBNetTrainer"

    # ---------------------------------------------------------------------------------------
    # Optimizer, beside Detectron2's keys in SOLVER
    # ---------------------------------------------------------------------------------------
    # "SGD", as Detectron2 builds it, or "RMSProp" as TensorFlow has it (FBNetV3 section 4.2).
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Of RMSProp. FBNetV3 does not publish these; the values are EfficientNet's, as a guess.
    cfg.SOLVER.RMSPROP = CN()
    # Share of the old mean of squared gradients that stays at each step.
    cfg.SOLVER.RMSPROP.ALPHA = 0.9
    # Added to that mean below the square root.
    cfg.SOLVER.RMSPROP.EPS = 0.001
    # Of the update.
    cfg.SOLVER.RMSPROP.MOMENTUM = 0.9

    # Each batch goes through the model in so many parts, whose gradients are added up: SOLVER.IMS_PER_BATCH stays the
    # published one where a GPU cannot hold its share. Norms see the parts one by one.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # With SOLVER.AMP.ENABLED: "float16", on CUDA devices and with a scale on the loss, or "bfloat16", on CPUs too.
    cfg.SOLVER.AMP.DTYPE = "float16"

    # Memory format of the model's convolutions and images; only speed depends on it.
    cfg.MODEL.CHANNELS_LAST = False
    # Backend of torch.compile for backbone and classifier head, such as "inductor"; "" does not compile.
    cfg.MODEL.COMPILE = ""

    # ---------------------------------------------------------------------------------------
    # Lengths in epochs. An epoch has as many iterations as the training set has whole batches. Each key that is not 0
    # (or empty) takes the place of the one in iterations that it names.
    # ---------------------------------------------------------------------------------------
    # Of the schedule (SOLVER.MAX_ITER).
    cfg.SOLVER.EPOCHS = 0
    # Of the warm-up (SOLVER.WARMUP_ITERS); may be a fraction.
    cfg.SOLVER.WARMUP_EPOCHS = 0.0
    # After which WarmupMultiStepLR multiplies the learning rate by SOLVER.GAMMA (SOLVER.STEPS).
    cfg.SOLVER.STEP_EPOCHS = ()
    # Factor on the learning rate after each epoch that follows the warm-up, for SOLVER.LR_SCHEDULER_NAME
    # WarmupExponentialLR, which needs SOLVER.EPOCHS (FBNetV3 section 4.2; 0.963 in its search, section 4.1).
    cfg.SOLVER.EPOCH_DECAY = 0.9875
    # Epoch after which training ends, with the learning rates of the whole schedule until then.
    cfg.SOLVER.STOP_EPOCH = 0
    # Between evaluations (TEST.EVAL_PERIOD).
    cfg.TEST.EVAL_EPOCHS = 0
    # Between checkpoints (SOLVER.CHECKPOINT_PERIOD).
    cfg.SOLVER.CHECKPOINT_EPOCHS = 0

    # ---------------------------------------------------------------------------------------
    # Exponential moving average of the weights (FBNetV3 section 4.3)
    # ---------------------------------------------------------------------------------------
    cfg.MODEL_EMA = CN()
    # Keep the average and evaluate it.
    cfg.MODEL_EMA.ENABLED = False
    # Share of the old average that stays at each step (0.99985 for ImageNet, 0.9998 for COCO, 0.999 for CIFAR-10).
    cfg.MODEL_EMA.DECAY = 0.9998
    # Begin with less: the share is at most (1 + n) / (10 + n) after n steps, as in TensorFlow. False is the paper's
    # plain form, where the weights at the start stay in the average for several 1 / (1 - DECAY) steps.
    cfg.MODEL_EMA.WARMUP = True
    # Where the average is kept: "" is the model's device; "cpu" saves a GPU's memory and takes time at each step.
    cfg.MODEL_EMA.DEVICE = ""


def _add_supernet(cfg: CfgNode) -> None:
    from detectron2.config import CfgNode as CN

    # ---------------------------------------------------------------------------------------
    # Supernet: MODEL.META_ARCHITECTURE Supernet (FBNet section 3). It reads MODEL.FBNET's other keys, but not ARCH;
    # WIDTH_MULT scales the space's channels, rounded up to multiples of 8, and not the head's (section 4.2).
    # ---------------------------------------------------------------------------------------
    cfg.MODEL.SUPERNET = CN()
    # The meta-architecture inside, which does the task: ImageClassifier, GeneralizedRCNN, ...
    cfg.MODEL.SUPERNET.INNER = "ImageClassifier"
    # Name of a space, or path of a space file.
    cfg.MODEL.SUPERNET.SPACE = "fbnet"
    # px of the images that latency and MACs are for; 0 is the space's own.
    cfg.MODEL.SUPERNET.RESOLUTION = 0
    # Gumbel noise: "step", one draw per step for all images and processes, or "image", one per image.
    cfg.MODEL.SUPERNET.NOISE = "step"
    # Compute activations again in the backward pass instead of keeping them: less memory, more time.
    cfg.MODEL.SUPERNET.CHECKPOINT = False
    # Memory format of the convolutions; only speed depends on it.
    cfg.MODEL.SUPERNET.CHANNELS_LAST = True

    # ---------------------------------------------------------------------------------------
    # Latency in the search's loss (FBNet section 3.2)
    # ---------------------------------------------------------------------------------------
    cfg.LATENCY = CN()
    # Table of tools/benchmark_latency.py or tools/latency_table.py; empty: the search knows of no latency.
    cfg.LATENCY.TABLE = ""
    # Loss: a name in fbnet_plugin.dnas.LATENCY_LOSS_REGISTRY. ProductLatencyLoss is eq. 2.
    cfg.LATENCY.LOSS = "ProductLatencyLoss"
    # alpha and beta of eq. 2 (appendix A: 0.2 and 0.6).
    cfg.LATENCY.ALPHA = 0.2
    cfg.LATENCY.BETA = 0.6
    # µs that the architecture is to take; 0 leaves the latency to the loss. With a target the loss is the task's
    # alone, and after each theta step P_theta is moved to the nearest distribution with the wanted expected latency.
    cfg.LATENCY.TARGET_US = 0.0
    # Share of the epochs with theta training in which the expected latency moves from its first value to the target.
    cfg.LATENCY.TARGET_RAMP = 0.5


def _add_dnas(cfg: CfgNode) -> None:
    from detectron2.config import CfgNode as CN

    # ---------------------------------------------------------------------------------------
    # Search: TRAINER DNASTrainer. Values are those of FBNet appendix A. The weights' optimizer and schedule are
    # SOLVER's; SOLVER.MAX_ITER is not read, as epochs and the size of the data say how long the search is.
    # ---------------------------------------------------------------------------------------
    cfg.DNAS = CN()
    # Epochs of the search.
    cfg.DNAS.EPOCHS = 90
    # Epochs before theta is trained.
    cfg.DNAS.THETA_START = 10
    # Share of the training set that trains the weights; the rest trains theta.
    cfg.DNAS.WEIGHT_SHARE = 0.8
    # Seed of that split, and of the choice of classes.
    cfg.DNAS.SPLIT_SEED = 0
    # Random classes of the training set to search on (the paper: 100 of ImageNet's); 0 is all of them.
    cfg.DNAS.CLASSES = 0
    # Adam for theta.
    cfg.DNAS.THETA_LR = 0.01
    cfg.DNAS.THETA_WEIGHT_DECAY = 0.0005
    # Temperature of the Gumbel softmax in the first epoch, its decay per epoch (times exp(-0.045)), its least value.
    cfg.DNAS.TEMPERATURE = 5.0
    cfg.DNAS.TEMPERATURE_DECAY = 0.045
    cfg.DNAS.TEMPERATURE_MIN = 0.001
    # Weight steps on the "mixed" output of all candidates (the paper), or on a "single_path" sampled from P_theta.
    cfg.DNAS.WEIGHT_STEP = "mixed"
    # Epochs between copies of the distribution in OUTPUT_DIR/search.
    cfg.DNAS.SNAPSHOT_PERIOD = 10
    # Mean probability of "skip" above which the first half of the theta training warns of a collapse.
    cfg.DNAS.SKIP_WARNING = 0.5


def _add_nars(cfg: CfgNode) -> None:
    from detectron2.config import CfgNode as CN

    # ---------------------------------------------------------------------------------------
    # Joint architecture-recipe search: TRAINER NARSTrainer (FBNetV3 sections 3 and 4). A candidate is this config with
    # an architecture in MODEL.FBNET.ARCH and a recipe in the keys that a recipe has; SOLVER.EPOCHS and
    # SOLVER.EPOCH_DECAY are the search's (150 epochs and 0.963 in section 4.1), unless the space's recipes say them.
    # ---------------------------------------------------------------------------------------
    cfg.NARS = CN()
    # How candidates are chosen: a name in fbnet_plugin.nars.SEARCHER_REGISTRY. NARSSearcher is the paper's Algorithm 1,
    # RandomSearcher trains as many random candidates.
    cfg.NARS.SEARCHER = "NARSSearcher"
    # Name of a joint space, or path of its file (tools/nars.py spaces lists them).
    cfg.NARS.SPACE = "fbnet_v3_ema"
    # "joint"; "recipe": recipes for MODEL.FBNET.ARCH; "architecture": architectures under this config's own recipe.
    cfg.NARS.MODE = "joint"
    # The accuracy, as the evaluator names it; of the averaged weights where a recipe keeps an average.
    cfg.NARS.METRIC = "classification/top1"
    # Random classes of the training set to search on (section 4: 200 of ImageNet's); 0 is all of them.
    cfg.NARS.CLASSES = 0
    # Images withheld from DATASETS.TRAIN as validation set (section 4: 10,000); 0 evaluates on DATASETS.TEST.
    cfg.NARS.VALIDATION_IMAGES = 10000
    # Seed of both choices.
    cfg.NARS.SPLIT_SEED = 0
    # What every candidate of the pool meets (section 4.2); metrics are macs, params and, with LATENCY.TABLE,
    # latency_us. Several are separated by commas; "" is none.
    cfg.NARS.CONSTRAINTS = "400M <= macs <= 800M"
    # Size of the pool, n (section 4.1), and share of it that the predictor is pretrained on (section 4.2).
    cfg.NARS.POOL_SIZE = 20000
    cfg.NARS.PRETRAIN_SHARE = 0.8
    # Candidates per round, m, and rounds, T (sections 4.1 and 4.2).
    cfg.NARS.BATCH = 48
    cfg.NARS.ROUNDS = 5

    # Choice of a round's candidates from the pool (section 3.3).
    cfg.NARS.SELECTION = CN()
    # First round: "random" (section 4.1), "strata", random in each part of the range of the constraint, or "maximin",
    # as different from each other as can be.
    cfg.NARS.SELECTION.FIRST_ROUND = "random"
    # Later rounds: "range" takes the best predicted of each of BINS equal parts of the range of the constraint, so that
    # the predictor is of use for all of it (section 4.2); "targets" the best predicted under each of EVOLUTION.TARGETS.
    cfg.NARS.SELECTION.SPREAD = "range"
    # 0: as many as candidates; 1: the best of all.
    cfg.NARS.SELECTION.BINS = 0
    # Standard deviations of the prediction that are added to it: above 0 explores.
    cfg.NARS.SELECTION.KAPPA = 0.0

    # Accuracy predictor (section 3.1). "default" is an ensemble, "plain" the form of Figure 3.
    cfg.NARS.PREDICTOR = CN()
    cfg.NARS.PREDICTOR.FORM = "default"
    # Pretrain it on the architectures' statistics (section 3.2).
    cfg.NARS.PREDICTOR.PRETRAIN = True

    # Epochs of a fit with the encoder frozen, and with all of it at a reduced rate (section 3.3); and the error, in
    # points of accuracy (in standard deviations in the default form), from which the Huber loss is linear.
    cfg.NARS.PREDICTOR.FROZEN_EPOCHS = 50
    cfg.NARS.PREDICTOR.TUNED_EPOCHS = 50
    cfg.NARS.PREDICTOR.HUBER_DELTA = 1.0
    # Width of the encoder (recalled from the paper's appendix, not verified).
    cfg.NARS.PREDICTOR.EMBEDDING = 24

    # Early stopping of candidates (section 3.3): the rank correlation that the epoch must reach; above 1 never stops.
    cfg.NARS.EARLY_STOP = CN()
    cfg.NARS.EARLY_STOP.THRESHOLD = 0.92

    # Evaluating candidates.
    cfg.NARS.EVALUATION = CN()
    # A name in fbnet_plugin.nars.EXECUTOR_REGISTRY.
    cfg.NARS.EVALUATION.EXECUTOR = "LocalPoolExecutor"
    # Candidates at a time, and CPU threads of each; 0 workers: one per GPU, or per CPU core.
    cfg.NARS.EVALUATION.WORKERS = 0
    cfg.NARS.EVALUATION.THREADS = 1
    # CPUs, GPUs (fractions share one) and GiB of memory that a candidate takes.
    cfg.NARS.EVALUATION.CPUS = 1.0
    cfg.NARS.EVALUATION.GPUS = 0.0
    cfg.NARS.EVALUATION.MEMORY_GB = 0.0
    # Address of a Ray cluster; "" starts Ray on this machine.
    cfg.NARS.EVALUATION.RAY_ADDRESS = ""
    # Seconds after which a candidate has failed; 0 is no limit.
    cfg.NARS.EVALUATION.TIMEOUT_S = 0.0
    # Times that a candidate is begun again whose worker was killed.
    cfg.NARS.EVALUATION.RETRIES = 2
    # Failures in a row that end the search.
    cfg.NARS.EVALUATION.MAX_FAILURES = 10

    # Evolutionary search (section 3.4).
    cfg.NARS.EVOLUTION = CN()
    # One search per entry (section 4.2: FBNetV3-B, C, D, E), written as CONSTRAINTS.
    cfg.NARS.EVOLUTION.TARGETS = ["macs <= 450M", "macs <= 550M", "macs <= 650M", "macs <= 750M"]
    # First generation: best measured candidates, p, and random ones, q; children of each; kept, K (facts that the
    # paper's text leaves to its appendix; defaults here).
    cfg.NARS.EVOLUTION.PARENTS = 50
    cfg.NARS.EVOLUTION.RANDOM = 50
    cfg.NARS.EVOLUTION.CHILDREN = 12
    cfg.NARS.EVOLUTION.TOP = 40
    # The gain of the best score at which it stops (Algorithm 1), and generations in a row with no more than that (the
    # paper: one).
    cfg.NARS.EVOLUTION.EPSILON = 1e-6
    cfg.NARS.EVOLUTION.PATIENCE = 5
    # Crossover besides mutations; the paper speaks of mutations alone, the algorithm that it cites has both.
    cfg.NARS.EVOLUTION.CROSSOVER = True
    # Standard deviations of the prediction that are subtracted from a candidate's score: above 0 keeps to where the
    # predictor is sure of itself.
    cfg.NARS.EVOLUTION.CAUTION = 0.0

    # So many of the best of each evolution, and of the best measured under its target, are trained anew, to the end of
    # the schedule; the winner is then the best of these trainings. What won among many did so by luck too, in the
    # prediction or in the training. 0 is the paper's form, in which the predictor has the last word.
    cfg.NARS.EVOLUTION.VERIFY = 0

    # Final trainings of what the evolution found, on all of DATASETS.TRAIN, evaluated on DATASETS.TEST.
    cfg.NARS.WINNERS = CN()
    # Per target; with TRAIN False their files are written and nothing is trained.
    cfg.NARS.WINNERS.COUNT = 1
    cfg.NARS.WINNERS.TRAIN = True
    # Trainings of each, with seeds of their own.
    cfg.NARS.WINNERS.SEEDS = 1
    # Schedule (sections 4.1 and 4.2); 0 keeps SOLVER's.
    cfg.NARS.WINNERS.EPOCHS = 400
    cfg.NARS.WINNERS.WARMUP_EPOCHS = 5.0
    cfg.NARS.WINNERS.EPOCH_DECAY = 0.9875

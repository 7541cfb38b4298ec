"""Train a detector on your own data, evaluate it, draw what it finds: python train.py [--resume] [KEY VALUE ...]"""

import sys
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from PIL import Image, ImageDraw

from fbnet_plugin.engine import FBNetTrainer, argument_parser, setup

HERE = Path(__file__).resolve().parent


def main():
    for split in ("train", "val"):
        folder = HERE / "data" / split
        register_coco_instances(f"shapes_{split}", {}, f"{folder}.json", str(folder))
    args = argument_parser().parse_args(["--config-file", str(HERE / "config.yaml"), *sys.argv[1:]])
    cfg = setup(args)  # checked and frozen; on the CPU where there is no GPU

    trainer = FBNetTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()  # ends with an evaluation on DATASETS.TEST, whose figures are in results.json

    cfg.defrost()
    cfg.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}/model_final.pth"
    path = str(HERE / "data" / "val" / "000.png")
    found = DefaultPredictor(cfg)(read_image(path, "BGR"))["instances"].to("cpu")
    image = Image.open(path).convert("RGB")
    for box, label, score in zip(found.pred_boxes, found.pred_classes, found.scores):
        if score > 0.5:
            print(MetadataCatalog.get("shapes_val").thing_classes[label], f"{score:.2f}", box.tolist())
            ImageDraw.Draw(image).rectangle(box.tolist(), outline="red")
    image.save(f"{cfg.OUTPUT_DIR}/prediction.png")


if __name__ == "__main__":
    main()
